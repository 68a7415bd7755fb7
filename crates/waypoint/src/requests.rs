//! A connection of requests: the server side of HTTP.

use std::rc::Rc;

use tulle_http::server::{self, Request, Settings};
use tulle_telemetry::{Flag, Outcome, RequestEnds, RequestProtocol, RequestSecurity};

use crate::inbound::Client;
use crate::io::Io;
use crate::pipeline;
use crate::stream::reporter;
use crate::worker::Worker;

/// One connection, from beginning to end.
pub(crate) async fn serve(worker: &Rc<Worker>, client: Client, io: Io) {
    let client = Rc::new(client);
    let settings = Settings {
        refused: Some(refused(worker, &client)),
        ..Settings::default()
    };
    let drain = worker.shared.drain.clone();
    let stop = async move {
        drain.begun().await;
    };
    let handler = {
        let (worker, client) = (worker.clone(), client.clone());
        async move |request: Request| pipeline::handle(&worker, &client, request).await
    };
    let serving = server::serve(io, &settings, stop, handler);
    tokio::select! {
        biased;
        served = serving => if let Err(error) = served {
            tracing::debug!(source = %client.source, destination = %client.local, %error, "a connection of requests ended early");
        },
        () = worker.shared.drain.expired() => {}
    }
}

/// Requests that broke a rule never come to the pipeline; they are counted all the same.
fn refused(worker: &Rc<Worker>, client: &Rc<Client>) -> Rc<dyn Fn(&tulle_http::rules::Refusal)> {
    let (worker, client) = (worker.clone(), client.clone());
    Rc::new(move |refusal| {
        tracing::debug!(source = %client.source, error = %refusal, "a request is refused");
        let ends = RequestEnds {
            reporter: reporter(&client),
            source: None,
            source_principal: client.peer.as_ref(),
            destination: None,
            destination_principal: None,
            service: None,
            special: None,
            protocol: RequestProtocol::Http,
            security: RequestSecurity::Unknown,
            edits: None,
        };
        let outcome = Outcome {
            code: refusal.status.as_u16(),
            grpc_status: None,
            flags: Flag::DownstreamProtocol.into(),
        };
        let series = worker.requests.series(&ends, outcome);
        series.request(std::time::Duration::ZERO, 0, 0);
    })
}
