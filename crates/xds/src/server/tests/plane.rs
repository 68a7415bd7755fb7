//! A control plane, and a proxy that remembers what it was told.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tulle_identity::{Authority, BoxFuture};
use tulle_model::Identity;

use super::*;
use crate::client::{self, Batch, Config, Event, Handler, Rejection};
use crate::endpoint::{Endpoint, RootSource};
use crate::node::NodeInfo;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const NAME: &str = "istiod.istio-system.svc";
pub(super) const TOKEN: &str = "a good token";
pub(super) const POD: &str = "spiffe://cluster.local/ns/default/sa/sleep";

/// Knows one token, and certificates of the mesh.
pub(super) struct Tokens;

impl Authenticator for Tokens {
    fn authenticate<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> BoxFuture<'a, Result<Caller, AuthError>> {
        Box::pin(async move {
            assert!(presented.address.is_some());
            match presented.token {
                Some(TOKEN) => Ok(Caller {
                    namespace: "istio-system".into(),
                    service_account: "ztunnel".into(),
                    node: Some("node-1".into()),
                    ..Caller::default()
                }),
                Some("later") => Err(AuthError::Unavailable("the API server is away".into())),
                _ => Err(AuthError::Refused(
                    "the token's audience is not istio-ca".into(),
                )),
            }
        })
    }
}

/// Signs for everybody but `sa/forbidden`.
pub(super) struct Signs(Arc<Authority>);

impl Signer for Signs {
    fn sign<'a>(
        &'a self,
        request: SigningRequest,
    ) -> BoxFuture<'a, Result<Vec<String>, SignError>> {
        Box::pin(async move {
            assert_eq!(request.caller.service_account, "ztunnel");
            let name = request.impersonated.unwrap_or_default();
            let identity: Identity = name
                .parse()
                .map_err(|error| SignError::Invalid(format!("{error}")))?;
            if &*identity.service_account == "forbidden" {
                return Err(SignError::Denied(format!(
                    "no pod of {identity} runs on node-1"
                )));
            }
            self.0
                .sign_workload(&request.csr, &identity, request.lifetime)
                .map_err(|error| SignError::Invalid(error.to_string()))
        })
    }
}

/// A control plane on a port.
pub(super) struct Plane {
    pub(super) server: Server,
    pub(super) authority: Arc<Authority>,
    pub(super) address: SocketAddr,
    pub(super) stop: Option<oneshot::Sender<()>>,
    pub(super) task: JoinHandle<Result<(), ServeError>>,
}

impl Plane {
    pub(super) async fn start(publisher: Publisher, secure: bool) -> Self {
        let authority = Arc::new(Authority::new_self_signed("cluster.local").unwrap());
        let any = "127.0.0.1:0".parse().unwrap();
        Self::at(any, authority, publisher, secure).await
    }

    pub(super) async fn at(
        address: SocketAddr,
        authority: Arc<Authority>,
        publisher: Publisher,
        secure: bool,
    ) -> Self {
        let server = Server::new(
            publisher,
            Arc::new(Tokens),
            Arc::new(Signs(authority.clone())),
        );
        let (chain, key) = authority.sign_server(&[NAME.to_owned()], None).unwrap();
        let tls = ServerTls::new(&chain, &key, authority.root_pem()).unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = server.clone();
        let task = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            serving
                .serve(
                    listener,
                    secure.then_some(tls),
                    stop,
                    Duration::from_secs(5),
                )
                .await
        });
        Self {
            server,
            authority,
            address,
            stop: Some(stop),
            task,
        }
    }

    pub(super) async fn stop(mut self) -> (SocketAddr, Arc<Authority>) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.task).await.unwrap().unwrap();
        (self.address, self.authority.clone())
    }

    pub(super) fn endpoint(&self, files: &Files, scheme: &str) -> Endpoint {
        files.write("root", self.authority.root_pem());
        Endpoint {
            address: format!("{scheme}://{}", self.address),
            roots: RootSource::File(files.path("root")),
            server_name: Some(NAME.to_owned()),
            token: Some(files.path("token")),
            cluster_id: "Kubernetes".to_owned(),
            headers: vec![("x-extra".to_owned(), "1".to_owned())],
        }
    }
}

/// Token and root, as they are mounted.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    pub(super) fn new(token: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("token", token);
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }
}

pub(super) fn node() -> NodeInfo {
    NodeInfo {
        ip: "10.0.0.7".into(),
        pod: "ztunnel-abcde".into(),
        namespace: "istio-system".into(),
        node: "node-1".into(),
        cluster_id: "Kubernetes".into(),
        ..NodeInfo::default()
    }
}

/// What a client knows and was told.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) held: BTreeMap<(String, String), Bytes>,
    /// Type and names of each batch.
    pub(super) batches: Vec<(String, Vec<String>, Vec<String>)>,
    pub(super) synced: HashMap<String, usize>,
    pub(super) connected: usize,
    /// How many resources were held when a type was first complete.
    pub(super) held_at_sync: HashMap<String, usize>,
    pub(super) errors: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Proxy(pub(super) Arc<watch::Sender<Seen>>);

impl Handler for Proxy {
    fn update(&mut self, batch: Batch) -> Vec<Rejection> {
        let mut rejected = Vec::new();
        self.0.send_modify(|seen| {
            let key = |name: &str| (batch.type_url.clone(), name.to_owned());
            for name in &batch.removed {
                seen.held.remove(&key(name));
            }
            for resource in &batch.upserts {
                if &resource.body[..] == b"bad" {
                    rejected.push(Rejection {
                        name: resource.name.to_string(),
                        error: "cannot be taken".into(),
                    });
                } else {
                    seen.held.insert(key(&resource.name), resource.body.clone());
                }
            }
            let names = batch.upserts.iter().map(|r| r.name.to_string()).collect();
            seen.batches
                .push((batch.type_url.clone(), names, batch.removed.clone()));
        });
        rejected
    }

    fn event(&mut self, event: Event<'_>) {
        self.0.send_modify(|seen| match event {
            Event::Connected => seen.connected += 1,
            Event::Synced { type_url } => {
                *seen.synced.entry(type_url.to_owned()).or_default() += 1;
                let held = seen.held.len();
                seen.held_at_sync.entry(type_url.to_owned()).or_insert(held);
            }
            Event::Disconnected { error, .. } => seen.errors.push(error.to_string()),
        });
    }
}

pub(super) struct Client {
    pub(super) proxy: Proxy,
    pub(super) task: JoinHandle<std::convert::Infallible>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    pub(super) fn start(endpoint: Endpoint, node: NodeInfo) -> Self {
        let proxy = Proxy(Arc::new(watch::Sender::new(Seen::default())));
        let config = Config {
            endpoint,
            node,
            types: client::default_types(),
        };
        let task = tokio::spawn(client::run(config, proxy.clone()));
        Self { proxy, task }
    }

    pub(super) async fn until(&self, what: &str, done: impl FnMut(&Seen) -> bool) {
        let mut seen = self.proxy.0.subscribe();
        let reached = timeout(PATIENCE, seen.wait_for(done));
        assert!(reached.await.is_ok(), "{what}");
    }

    pub(super) fn batches(&self) -> Vec<(String, Vec<String>, Vec<String>)> {
        self.proxy.0.borrow().batches.clone()
    }
}

pub(super) fn put(name: &str, body: &str) -> Change {
    Change::put(name, body.as_bytes().to_vec())
}

pub(super) fn holds(seen: &Seen, name: &str, body: &str) -> bool {
    let found = seen.held.iter().find(|((_, held), _)| held == name);
    found.is_some_and(|(_, held)| &held[..] == body.as_bytes())
}

pub(super) fn synced(seen: &Seen) -> bool {
    seen.synced.len() == 2
}
