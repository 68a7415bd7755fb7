//! A control plane for one proxy: discovery and certificates from our own server crates, and whatever it is told to publish.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use tokio::sync::oneshot;
use tulle_identity::{
    Authority, BoxFuture, CertificateRequest, Credentials, Epoch, IssuedPem, TlsSettings,
};
use tulle_linux::NetNs;
use tulle_model::{Identity, Service, Workload};
use tulle_proto::{ADDRESS_TYPE, encode_service, encode_workload, json};
use tulle_xds::server::{
    Audience, AuthError, Authenticator, Caller, Change, Presented, Publisher, Server, SignError,
    Signer, SigningRequest,
};

use super::mesh::GATEWAY;

/// Where it listens, in the proxy's own namespace.
pub(super) const PORT: u16 = 15010;
/// How long streams may go on after the end.
const GRACE: Duration = Duration::from_millis(100);
/// Of every certificate.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// One authority for everybody, for this run.
pub(super) fn authority() -> Result<&'static Authority> {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    if let Some(known) = AUTHORITY.get() {
        return Ok(known);
    }
    let made = Authority::new_self_signed("cluster.local")?;
    Ok(AUTHORITY.get_or_init(|| made))
}

/// A certificate.
pub(super) fn epoch(identity: &Identity) -> Result<Epoch> {
    let request = CertificateRequest::new(identity)?;
    let chain = authority()?.sign_workload(&request.csr_pem, identity, Some(LIFETIME))?;
    let credentials = Credentials::assemble(identity, request, &IssuedPem { chain })?;
    Ok(Epoch::new(credentials, TlsSettings::default())?)
}

/// Serves until dropped.
pub(super) struct Control {
    publisher: Publisher,
    _stop: oneshot::Sender<()>,
}

impl Control {
    pub(super) fn start(netns: &NetNs) -> Result<Self> {
        let listener = netns.enter(|| TcpListener::bind(("127.0.0.1", PORT)))??;
        listener.set_nonblocking(true)?;
        let publisher = Publisher::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let published = publisher.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                let server = Server::new(published, Arc::new(Anybody), Arc::new(Ca));
                let stop = async move {
                    // Dropped is the sign.
                    let _ = stopped.await;
                };
                // The proxy that would miss it ends as well.
                let _ = server.serve(listener, None, stop, GRACE).await;
            });
        });
        Ok(Self {
            publisher,
            _stop: stop,
        })
    }

    pub(super) fn addresses(&self, services: &[Service], workloads: &[Workload]) {
        let services = services
            .iter()
            .map(|s| Change::put(s.key().as_str(), encode_service(s)));
        let workloads = workloads
            .iter()
            .map(|w| Change::put(&*w.uid, encode_workload(w)));
        let all = services.chain(workloads).collect();
        self.publisher.publish(ADDRESS_TYPE, all);
    }

    /// Resources of layer 7, by name.
    pub(super) fn put<'a, R: Serialize + 'a>(
        &self,
        type_url: &str,
        resources: impl IntoIterator<Item = (String, &'a R)>,
    ) -> Result<()> {
        let change = |(name, resource): (String, &R)| {
            let body = json::encode(resource).map_err(|error| anyhow!("{name}: {error}"))?;
            Ok(Change::put(name, body).for_audience(Audience::gateways([GATEWAY])))
        };
        let changes: Result<Vec<_>> = resources.into_iter().map(change).collect();
        self.publisher
            .publish(type_url, changes.context("what is published")?);
        Ok(())
    }
}

/// The one proxy in the namespace.
struct Anybody;

impl Authenticator for Anybody {
    fn authenticate<'a>(&'a self, _: Presented<'a>) -> BoxFuture<'a, Result<Caller, AuthError>> {
        let caller = Caller {
            namespace: "bench".to_owned(),
            service_account: "proxy".to_owned(),
            gateway: Some(GATEWAY.into()),
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
        let refused = |why: String| SignError::Invalid(why);
        Box::pin(async move {
            let identity = request
                .impersonated
                .ok_or(refused("for whom?".to_owned()))?;
            let identity: Identity = identity
                .parse()
                .map_err(|_| refused(format!("{identity} is no identity")))?;
            let authority = authority().map_err(|error| refused(error.to_string()))?;
            authority
                .sign_workload(&request.csr, &identity, request.lifetime)
                .map_err(|error| refused(error.to_string()))
        })
    }
}
