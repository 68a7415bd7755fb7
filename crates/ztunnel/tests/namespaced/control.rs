//! A control plane and a node agent, on a thread of their own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc as blocking};
use std::thread::JoinHandle;
use std::time::Duration;

use prost::Message;
use tokio::sync::{mpsc, watch};
use tulle_identity::{Authority, BoxFuture};
use tulle_linux::{NetNs, SeqListener, SeqStream};
use tulle_model::{Identity, Service, Workload};
use tulle_policy::Policy;
use tulle_proto::workload::zds::{
    AddWorkload, DelWorkload, SnapshotSent, WorkloadInfo, WorkloadRequest, WorkloadResponse,
    ZdsHello, workload_request::Payload, workload_response,
};
use tulle_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, encode_policy, encode_service, encode_workload,
};
use tulle_xds::server::{
    AuthError, Authenticator, Caller, Change, Presented, Publisher, Server, SignError, Signer,
    SigningRequest,
};

/// A pod as the node agent tells of it.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) service_account: String,
    pub(crate) netns: NetNs,
}

enum Order {
    Add(Told),
    Delete(String),
    Nonsense,
}

/// Both, until dropped.
pub(crate) struct Control {
    pub(crate) publisher: Publisher,
    orders: mpsc::UnboundedSender<(Order, blocking::Sender<String>)>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Serves discovery and certificates on `listener`, and a node agent on `socket`.
    pub(crate) fn start(
        listener: TcpListener,
        socket: PathBuf,
        pods: &Arc<Mutex<BTreeMap<String, Told>>>,
    ) -> Self {
        let publisher = Publisher::new();
        let (orders, received) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let (published, pods) = (publisher.clone(), pods.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let server = Server::new(published, Arc::new(Anybody), Arc::new(Ca::new()));
                let mut told = stopped.clone();
                let served = tokio::spawn(async move {
                    let stop = async move {
                        let _ = told.wait_for(|stop| *stop).await;
                    };
                    let _ = server
                        .serve(listener, None, stop, Duration::from_millis(200))
                        .await;
                });
                let mut told = stopped;
                tokio::select! {
                    () = agent(&socket, &pods, received) => {}
                    _ = told.wait_for(|stop| *stop) => {}
                }
                let _ = served.await;
                let _ = std::fs::remove_file(&socket);
            });
        });
        Self {
            publisher,
            orders,
            stop,
            thread: Some(thread),
        }
    }

    /// Tells the proxy of a pod; returns the error of its acknowledgement, empty when it serves the pod.
    pub(crate) fn add(&self, pod: Told) -> String {
        self.order(Order::Add(pod))
    }

    /// Tells the proxy that a pod left.
    pub(crate) fn delete(&self, uid: &str) -> String {
        self.order(Order::Delete(uid.to_owned()))
    }

    /// Says that the snapshot is complete although it said so before.
    pub(crate) fn say_nonsense(&self) {
        let (to, _) = blocking::channel();
        self.orders.send((Order::Nonsense, to)).unwrap();
    }

    fn order(&self, order: Order) -> String {
        let (to, from) = blocking::channel();
        self.orders.send((order, to)).unwrap();
        from.recv_timeout(Duration::from_secs(30))
            .expect("the proxy does not acknowledge")
    }

    pub(crate) fn put_workload(&self, workload: &Workload) {
        let change = Change::put(&*workload.uid, encode_workload(workload));
        self.publisher.publish(ADDRESS_TYPE, vec![change]);
    }

    pub(crate) fn put_service(&self, service: &Service) {
        let change = Change::put(service.key().as_str(), encode_service(service));
        self.publisher.publish(ADDRESS_TYPE, vec![change]);
    }

    pub(crate) fn put_policy(&self, policy: &Policy) {
        let change = Change::put(policy.key(), encode_policy(policy));
        self.publisher.publish(AUTHORIZATION_TYPE, vec![change]);
    }

    pub(crate) fn remove_policy(&self, key: &str) {
        self.publisher
            .publish(AUTHORIZATION_TYPE, vec![Change::remove(key)]);
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

/// One connection of the proxy after the other.
async fn agent(
    socket: &Path,
    pods: &Mutex<BTreeMap<String, Told>>,
    mut orders: mpsc::UnboundedReceiver<(Order, blocking::Sender<String>)>,
) {
    let listener = SeqListener::bind(socket, 0o600).unwrap();
    let mut stream = welcome(&listener, pods).await;
    while let Some((order, answer)) = orders.recv().await {
        loop {
            let outcome = match &order {
                Order::Add(pod) => {
                    pods.lock().unwrap().insert(pod.uid.clone(), pod.clone());
                    add(&stream, pod).await
                }
                Order::Nonsense => ask(&stream, Payload::SnapshotSent(SnapshotSent {}), None).await,
                Order::Delete(uid) => {
                    pods.lock().unwrap().remove(uid);
                    ask(
                        &stream,
                        Payload::Del(DelWorkload { uid: uid.clone() }),
                        None,
                    )
                    .await
                }
            };
            match outcome {
                None if matches!(order, Order::Nonsense) => {
                    stream = welcome(&listener, pods).await;
                    break;
                }
                Some(error) => {
                    let _ = answer.send(error);
                    break;
                }
                None => stream = welcome(&listener, pods).await,
            }
        }
    }
}

async fn welcome(listener: &SeqListener, pods: &Mutex<BTreeMap<String, Told>>) -> SeqStream {
    loop {
        let stream = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let Ok((length, _)) = stream.recv(&mut buffer).await else {
            continue;
        };
        if length == 0 {
            continue;
        }
        let hello = ZdsHello::decode(&buffer[..length]).unwrap();
        assert_eq!(hello.version, 1);
        let known: Vec<Told> = pods.lock().unwrap().values().cloned().collect();
        for pod in &known {
            add(&stream, pod).await;
        }
        if ask(&stream, Payload::SnapshotSent(SnapshotSent {}), None)
            .await
            .is_some()
        {
            return stream;
        }
    }
}

async fn add(stream: &SeqStream, pod: &Told) -> Option<String> {
    let info = WorkloadInfo {
        name: pod.name.clone(),
        namespace: "default".to_owned(),
        service_account: pod.service_account.clone(),
    };
    let add = AddWorkload {
        uid: pod.uid.clone(),
        workload_info: Some(info),
    };
    ask(stream, Payload::Add(add), Some(&pod.netns)).await
}

/// None when the proxy is gone.
async fn ask(stream: &SeqStream, payload: Payload, netns: Option<&NetNs>) -> Option<String> {
    let request = WorkloadRequest {
        payload: Some(payload),
    };
    let fds: Vec<_> = netns.iter().map(|n| n.fd()).collect();
    stream.send(&request.encode_to_vec(), &fds).await.ok()?;
    let mut buffer = [0; 1024];
    let (length, _) = stream.recv(&mut buffer).await.ok()?;
    if length == 0 {
        return None;
    }
    let answer = WorkloadResponse::decode(&buffer[..length]).unwrap();
    let workload_response::Payload::Ack(ack) = answer.payload.unwrap();
    Some(ack.error)
}

struct Anybody;

impl Authenticator for Anybody {
    fn authenticate<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> BoxFuture<'a, Result<Caller, AuthError>> {
        assert_eq!(presented.token, Some("test-token"));
        let caller = Caller {
            namespace: "istio-system".to_owned(),
            service_account: "ztunnel".to_owned(),
            ..Caller::default()
        };
        Box::pin(async { Ok(caller) })
    }
}

struct Ca(&'static Authority);

/// One authority for all, so that control planes may come and go.
static AUTHORITY: std::sync::OnceLock<Authority> = std::sync::OnceLock::new();

/// Who signs everybody's certificates.
pub(crate) fn authority() -> &'static Authority {
    Ca::new().0
}

impl Ca {
    fn new() -> Self {
        Self(AUTHORITY.get_or_init(|| Authority::new_self_signed("cluster.local").unwrap()))
    }
}

impl Signer for Ca {
    fn sign<'a>(
        &'a self,
        request: SigningRequest,
    ) -> BoxFuture<'a, Result<Vec<String>, SignError>> {
        Box::pin(async move {
            let identity: Identity = request.impersonated.unwrap().parse().unwrap();
            self.0
                .sign_workload(&request.csr, &identity, request.lifetime)
                .map_err(|error| SignError::Invalid(error.to_string()))
        })
    }
}
