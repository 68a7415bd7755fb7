//! One connection on the worker that serves it: is it requests or bytes?

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tulle_model::AppProtocol;

use crate::destination::is_http;
use crate::inbound::{Arrival, Client, Via};
use crate::io::Io;
use crate::limits::SNIFF_DEADLINE;
use crate::sniff::{Spoken, sniff};
use crate::worker::Worker;
use crate::{requests, stream};

/// Begins to serve a connection.
pub(crate) fn start(worker: &Rc<Worker>, arrival: Arrival) {
    let active = worker.active();
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        let Arrival {
            stream,
            seat,
            began,
            client,
        } = arrival;
        serve(&worker, client, stream.into(), began).await;
        drop((seat, active));
    });
}

/// One connection in a tunnel, from beginning to end.
async fn serve(worker: &Rc<Worker>, client: Client, io: Io, began: Instant) {
    let Via::Waypoint(target) = &client.via else {
        return;
    };
    match (is_http(target.protocol), target.protocol) {
        (Some(true), _) => requests::serve(worker, client, io).await,
        (Some(false), AppProtocol::Tcp) => stream::serve(worker, &client, io, began).await,
        // TLS that ends elsewhere is routed by its name; what does not say what it is may be anything.
        _ => by_first_bytes(worker, client, io, began).await,
    }
}

async fn by_first_bytes(worker: &Rc<Worker>, mut client: Client, mut io: Io, began: Instant) {
    let spoken = match sniff(&mut io, SNIFF_DEADLINE).await {
        Ok(spoken) => spoken,
        Err(error) => {
            tracing::debug!(source = %client.source, %error, "a connection broke before its first byte");
            return;
        }
    };
    match spoken {
        Spoken::Http => requests::serve(worker, client, io).await,
        Spoken::Tls(hello) => {
            client.server_name = hello.server_name.as_ref().map(Arc::clone);
            stream::serve(worker, &client, io, began).await;
        }
        Spoken::Bytes => stream::serve(worker, &client, io, began).await,
    }
}
