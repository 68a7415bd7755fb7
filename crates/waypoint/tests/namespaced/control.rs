//! A control plane, on a thread of its own.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tulle_identity::{
    Authority, BoxFuture, CertificateRequest, Credentials, Epoch, IssuedPem, TlsSettings,
};
use tulle_model::{Identity, Service, Workload};
use tulle_proto::{ADDRESS_TYPE, encode_service, encode_workload, json};
use tulle_xds::server::{
    Audience, AuthError, Authenticator, Caller, Change, Presented, Publisher, Server, SignError,
    Signer, SigningRequest,
};

/// One authority for all.
fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new_self_signed("cluster.local").unwrap())
}

/// A certificate for anybody.
pub(crate) fn epoch(identity: &Identity) -> Epoch {
    let request = CertificateRequest::new(identity).unwrap();
    let hour = Duration::from_secs(3600);
    let chain = authority()
        .sign_workload(&request.csr_pem, identity, Some(hour))
        .unwrap();
    let credentials = Credentials::assemble(identity, request, &IssuedPem { chain }).unwrap();
    Epoch::new(credentials, TlsSettings::default()).unwrap()
}

/// Discovery and certificates, until dropped.
pub(crate) struct Control {
    pub(crate) publisher: Publisher,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub(crate) fn start(listener: TcpListener) -> Self {
        let publisher = Publisher::new();
        let (stop, mut stopped) = watch::channel(false);
        let published = publisher.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let server = Server::new(published, Arc::new(Proxy), Arc::new(Ca));
                let stop = async move {
                    let _ = stopped.wait_for(|stop| *stop).await;
                };
                let grace = Duration::from_millis(200);
                let _ = server.serve(listener, None, stop, grace).await;
            });
        });
        Self {
            publisher,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn workload(&self, workload: &Workload) {
        let change = Change::put(&*workload.uid, encode_workload(workload));
        self.publisher.publish(ADDRESS_TYPE, vec![change]);
    }

    pub(crate) fn service(&self, service: &Service) {
        let change = Change::put(service.key().as_str(), encode_service(service));
        self.publisher.publish(ADDRESS_TYPE, vec![change]);
    }

    /// Any resource of layer 7.
    pub(crate) fn put(&self, type_url: &str, name: &str, resource: &impl Serialize) {
        let body = json::encode(resource).unwrap();
        let change = Change::put(name, body).for_audience(Audience::gateways(["shop/waypoint"]));
        self.publisher.publish(type_url, vec![change]);
    }

    pub(crate) fn remove(&self, type_url: &str, name: &str) {
        self.publisher.publish(type_url, vec![Change::remove(name)]);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Proxy;

impl Authenticator for Proxy {
    fn authenticate<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> BoxFuture<'a, Result<Caller, AuthError>> {
        assert_eq!(presented.token, Some("test-token"));
        let caller = Caller {
            namespace: "shop".to_owned(),
            service_account: "waypoint".to_owned(),
            gateway: Some("shop/waypoint".into()),
            ..Caller::default()
        };
        Box::pin(async { Ok(caller) })
    }
}

struct Ca;

impl Signer for Ca {
    fn sign<'a>(
        &'a self,
        request: SigningRequest,
    ) -> BoxFuture<'a, Result<Vec<String>, SignError>> {
        Box::pin(async move {
            let identity: Identity = request.impersonated.unwrap().parse().unwrap();
            authority()
                .sign_workload(&request.csr, &identity, request.lifetime)
                .map_err(|error| SignError::Invalid(error.to_string()))
        })
    }
}
