//! Through a waypoint: a scripted one of our own HBONE crate, with a certificate of the mesh.

use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tulle_hbone::server::{self, Request};
use tulle_hbone::{Connect, Counters, Settings, client};
use tulle_identity::{CertificateRequest, Credentials, Epoch, IssuedPem, TlsSettings};
use tulle_model::{
    AppProtocol, GatewayAddress, GatewayDestination, Identity, Port, Service, WeightedWaypoint,
    Workload,
};

use crate::control::authority;
use crate::mesh::{
    Mesh, Pod, application, connect, greeting as greet, is_reset, port, service, talk, workload,
};

const VIP: &str = "10.96.0.1:80";

/// A CONNECT that the waypoint took.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    peer: String,
    authority: String,
    forwarded: Option<String>,
}

/// Takes tunnels on port 15008 of a pod, and leads each connection to `onward` in a tunnel of its own. Ends with this process.
fn waypoint(pod: &Pod, account: &str, onward: SocketAddr) -> Arc<Mutex<Vec<Seen>>> {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (told, netns, account) = (seen.clone(), pod.netns.clone(), account.to_owned());
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        netns.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async {
                let epoch = Rc::new(epoch(&account));
                let listener = TcpListener::bind("0.0.0.0:15008").await.unwrap();
                ready.send(()).unwrap();
                loop {
                    let (tcp, _) = listener.accept().await.unwrap();
                    tokio::task::spawn_local(tunnel(tcp, epoch.clone(), told.clone(), onward));
                }
            })
        })
    });
    is_ready.recv().unwrap();
    seen
}

fn epoch(account: &str) -> Epoch {
    let identity = identity(account);
    let request = CertificateRequest::new(&identity).unwrap();
    let chain = authority()
        .sign_workload(&request.csr_pem, &identity, None)
        .unwrap();
    let credentials = Credentials::assemble(&identity, request, &IssuedPem { chain }).unwrap();
    Epoch::new(credentials, TlsSettings::default()).unwrap()
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "default", account)
}

async fn tunnel(tcp: TcpStream, epoch: Rc<Epoch>, seen: Arc<Mutex<Vec<Seen>>>, onward: SocketAddr) {
    let settings = Settings::default();
    let Ok(mut tunnel) = server::accept(tcp, &epoch.server, &settings).await else {
        return;
    };
    let peer = tunnel.peer().to_string();
    while let Some(request) = tunnel.next().await {
        seen.lock().unwrap().push(Seen {
            peer: peer.clone(),
            authority: request.authority.clone(),
            forwarded: request.forwarded.clone(),
        });
        tokio::task::spawn_local(lead_on(request, epoch.clone(), onward));
    }
}

async fn lead_on(request: Request, epoch: Rc<Epoch>, onward: SocketAddr) {
    let settings = Settings::default();
    let to = SocketAddr::new(onward.ip(), 15008);
    let expected: Arc<[Identity]> = [identity("server")].into();
    let tcp = TcpStream::connect(to).await.unwrap();
    let made = client::connect(tcp, &epoch.client, expected, &settings).await;
    let connect = Connect {
        authority: onward.to_string(),
        ..Connect::default()
    };
    let opened = match made {
        Ok(tunnel) => tunnel.open(&connect).await,
        Err(error) => panic!("no tunnel to {to}: {error}"),
    };
    let Ok(opened) = opened else {
        return request.refuse(503);
    };
    // Both relays end in a socket: a pair joins them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    let counters: Rc<Counters> = Rc::default();
    let back = request.accept(None);
    tokio::join!(
        back.relay(near.unwrap(), &counters, std::future::pending()),
        opened
            .stream
            .relay(far.unwrap().0, &counters, std::future::pending()),
    );
}

fn hbone_port() -> Port {
    Port {
        service_port: 15008,
        target_port: 15008,
        protocol: AppProtocol::Unknown,
    }
}

/// A waypoint's service and workload, as the control plane tells of them.
fn publish_waypoint(mesh: &Mesh, pod: &Pod, vip: &str) -> GatewayAddress {
    let mut own = service(&pod.name, vip, 15008);
    own.ports = vec![hbone_port()];
    let mut known = workload(pod);
    known.native_tunnel = true;
    known.services = [(own.key(), vec![hbone_port()])].into();
    mesh.control().put_service(&own);
    mesh.control().put_workload(&known);
    GatewayAddress {
        destination: GatewayDestination::Service(own.key()),
        hbone_port: 15008,
    }
}

/// `web` on `server`, behind a waypoint.
fn web(server: &Pod, gateway: &GatewayAddress) -> (Service, Workload) {
    let mut web = service("web", "10.96.0.1", 8080);
    web.waypoint = Some(Box::new(gateway.clone()));
    let mut known = workload(server);
    known.services = [(web.key(), vec![port(8080)])].into();
    (web, known)
}

fn bypassed(mesh: &Mesh, refused: bool) -> u64 {
    let end = format!("refused=\"{refused}\"}} ");
    let metrics = mesh.page(15020, "/metrics");
    let mut lines = metrics
        .lines()
        .filter(|l| l.starts_with("tulle_waypoint_bypassed_total{"));
    lines
        .find_map(|l| l.split_once(&end)?.1.parse().ok())
        .unwrap_or(0)
}

#[test]
fn a_service_is_reached_through_its_waypoint_and_the_waypoint_is_let_through() {
    let mut mesh = Mesh::start();
    let (client, wp, server) = (mesh.pod("client"), mesh.pod("wp"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let seen = waypoint(&wp, "wp", SocketAddr::new(server.ip, 8080));
    let gateway = publish_waypoint(&mesh, &wp, "10.96.0.50");
    let (mut web, known) = web(&server, &gateway);
    mesh.control().put_workload(&known);
    // Not before the pod is told to insist on its waypoint: then only the right way leads there.
    web.waypoint_use.enforced = true;
    mesh.control().put_service(&web);
    let greeting = mesh.eventually("the service", || {
        talk(&client.netns, VIP.parse().unwrap()).ok()
    });
    assert_eq!(greeting, wp.ip.to_string(), "the server sees the waypoint");
    let first = seen.lock().unwrap()[0].clone();
    assert_eq!(first.peer, "spiffe://cluster.local/ns/default/sa/client");
    assert_eq!(first.authority, VIP, "as it was dialled");
    let forwarded = first.forwarded.unwrap();
    assert!(
        forwarded.starts_with(&format!("for=\"{}:", client.ip))
            && forwarded.ends_with(";host=web.default.svc.cluster.local"),
        "{forwarded}"
    );

    let outbound = mesh.logged(&[
        "connection complete",
        "direction=\"outbound\"",
        "dst.hbone_addr=10.96.0.1:80",
    ]);
    for part in [
        format!("dst.addr={}:15008", wp.ip),
        "dst.service=\"web.default.svc.cluster.local\"".to_owned(),
        "dst.workload=\"wp\"".to_owned(),
        "dst.identity=\"spiffe://cluster.local/ns/default/sa/wp\"".to_owned(),
    ] {
        assert!(outbound.contains(&part), "no {part} in {outbound}");
    }
    let inbound = mesh.logged(&[
        "connection complete",
        "direction=\"inbound\"",
        "dst.workload=\"server\"",
    ]);
    for part in [
        "src.workload=\"wp\"",
        "src.identity=\"spiffe://cluster.local/ns/default/sa/wp\"",
    ] {
        assert!(inbound.contains(part), "no {part} in {inbound}");
    }

    // Past the waypoint, and in plain text, nothing arrives; and that is counted.
    let pod = SocketAddr::new(server.ip, 8080);
    assert!(is_reset(&client.netns, pod));
    assert!(is_reset(&wp.netns, pod));
    mesh.logged(&[
        "direction=\"inbound\"",
        "it came around waypoint default/wp.default.svc.cluster.local, through which all traffic must come",
    ]);
    assert_eq!(bypassed(&mesh, true), 2);

    // Not enforced, it is counted all the same.
    web.waypoint_use.enforced = false;
    mesh.control().put_service(&web);
    mesh.eventually("the pod itself", || talk(&client.netns, pod).ok());
    assert!(bypassed(&mesh, false) >= 1);

    // Insisting again ends what is there already.
    let mut live = connect(&client.netns, pod).unwrap();
    greet(&mut live).unwrap();
    web.waypoint_use.enforced = true;
    mesh.control().put_service(&web);
    let cut = live.read(&mut [0]);
    assert!(
        matches!(&cut, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset),
        "{cut:?}"
    );

    let dump: serde_json::Value = serde_json::from_str(&mesh.page(15000, "/config_dump")).unwrap();
    let shown = dump["services"].as_array().unwrap();
    let shown = shown.iter().find(|s| s["name"] == "web").unwrap();
    assert_eq!(
        shown["waypoint"]["destination"],
        "default/wp.default.svc.cluster.local"
    );
    assert_eq!(shown["waypoint"]["hboneMtlsPort"], 15008);
}

#[test]
fn a_waypoint_with_somebody_elses_certificate_gets_nothing() {
    let mut mesh = Mesh::start();
    let (client, wp, server) = (mesh.pod("client"), mesh.pod("wp"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let seen = waypoint(&wp, "impostor", SocketAddr::new(server.ip, 8080));
    let gateway = publish_waypoint(&mesh, &wp, "10.96.0.50");
    let (web, known) = web(&server, &gateway);
    mesh.control().put_workload(&known);
    mesh.control().put_service(&web);
    mesh.eventually("a refused handshake", || {
        let reset = is_reset(&client.netns, VIP.parse().unwrap());
        let log = mesh.log();
        let mut lines = log.lines();
        let failed =
            lines.any(|l| l.contains("dst.hbone_addr=10.96.0.1:80") && l.contains("error="));
        (reset && failed).then_some(())
    });
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn a_waypoint_that_is_away_is_not_passed_by_and_one_that_comes_back_is_used() {
    let mut mesh = Mesh::start();
    let (client, wp, server) = (mesh.pod("client"), mesh.pod("wp"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let gateway = publish_waypoint(&mesh, &wp, "10.96.0.50");
    let (web, known) = web(&server, &gateway);
    mesh.control().put_workload(&known);
    mesh.control().put_service(&web);
    let vip: SocketAddr = VIP.parse().unwrap();
    // In the model, and nobody listens.
    mesh.eventually("a refusal", || {
        let reset = is_reset(&client.netns, vip);
        (reset && mesh.log().contains("dst.hbone_addr=10.96.0.1:80")).then_some(())
    });
    assert_eq!(bypassed(&mesh, false), 0, "nothing went around it");
    let seen = waypoint(&wp, "wp", SocketAddr::new(server.ip, 8080));
    mesh.eventually("the waypoint", || talk(&client.netns, vip).ok());
    assert!(!seen.lock().unwrap().is_empty());
}

#[test]
fn a_pod_address_leads_to_the_workloads_waypoint() {
    let mut mesh = Mesh::start();
    let (client, wp, server) = (mesh.pod("client"), mesh.pod("wp"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let pod = SocketAddr::new(server.ip, 8080);
    let seen = waypoint(&wp, "wp", pod);
    let gateway = publish_waypoint(&mesh, &wp, "10.96.0.50");
    let mut known = workload(&server);
    known.waypoint = Some(Box::new(gateway));
    known.waypoint_enforced = true;
    mesh.control().put_workload(&known);
    mesh.eventually("the waypoint", || {
        let greeting = talk(&client.netns, pod).ok()?;
        (greeting == wp.ip.to_string()).then_some(())
    });
    assert_eq!(seen.lock().unwrap()[0].authority, pod.to_string());
}

#[test]
fn connections_are_shared_between_two_waypoints() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    let (wp, canary) = (mesh.pod("wp"), mesh.pod("canary"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let pod = SocketAddr::new(server.ip, 8080);
    let (at_primary, at_canary) = (waypoint(&wp, "wp", pod), waypoint(&canary, "canary", pod));
    let primary = publish_waypoint(&mesh, &wp, "10.96.0.50");
    let second = publish_waypoint(&mesh, &canary, "10.96.0.60");
    let (mut web, known) = web(&server, &primary);
    let weighted = |waypoint: &GatewayAddress, weight| WeightedWaypoint {
        waypoint: waypoint.clone(),
        weight,
    };
    web.waypoint_use.weighted = vec![weighted(&primary, 50), weighted(&second, 50)];
    mesh.control().put_workload(&known);
    mesh.control().put_service(&web);
    mesh.eventually("both", || {
        let _ = talk(&client.netns, VIP.parse().unwrap());
        let both = [&at_primary, &at_canary];
        both.iter()
            .all(|seen| !seen.lock().unwrap().is_empty())
            .then_some(())
    });
    // All to the canary.
    web.waypoint_use.weighted = vec![weighted(&primary, 0), weighted(&second, 100)];
    mesh.control().put_service(&web);
    mesh.eventually("news of the shares", || {
        let before = at_primary.lock().unwrap().len();
        for _ in 0..10 {
            talk(&client.netns, VIP.parse().unwrap()).ok()?;
        }
        (at_primary.lock().unwrap().len() == before).then_some(())
    });
}
