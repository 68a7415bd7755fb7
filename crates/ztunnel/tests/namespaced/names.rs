//! DNS in pods, and workloads that have only a name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tulle_linux::{NetNs, Redirect, redirect};
use tulle_model::Tunnel;

use crate::mesh::{Mesh, Pod, application, outside, port, service, talk};

/// Where the pods' `resolv.conf` would point: nobody is there, so only captured queries are answered.
const POD_RESOLVER: &str = "10.96.0.10:53";

/// A resolver in the first pod, to which the proxy's `resolv.conf` points: every name has this address. Ends with this process.
fn resolver(pod: &Pod, answer: Ipv4Addr) -> Arc<Mutex<Vec<SocketAddr>>> {
    assert_eq!(pod.ip.to_string(), "10.77.1.2", "not the first pod");
    let socket = pod
        .netns
        .enter(|| UdpSocket::bind("0.0.0.0:53"))
        .unwrap()
        .unwrap();
    let seen: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let told = seen.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            told.lock().unwrap().push(from);
            let mut message = buffer[..length].to_vec();
            let end = question_end(&message);
            let is_a = message[end - 4..end - 2] == [0, 1];
            message.truncate(end);
            (message[2], message[3]) = (0x81, 0x80);
            message[6..12].fill(0);
            if is_a {
                message[7] = 1;
                message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                message.extend(answer.octets());
            }
            socket.send_to(&message, from).unwrap();
        }
    });
    seen
}

fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The last address of the answer, over UDP; nothing if there is no answer within a moment.
fn ask(netns: &NetNs, name: &str) -> Option<IpAddr> {
    let socket = netns
        .enter(|| UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    socket.connect(POD_RESOLVER).unwrap();
    socket.send(&query(name)).ok()?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).ok()?;
    let answer = &buffer[..length];
    assert_eq!(answer[..2], [0x12, 0x34]);
    let octets: [u8; 4] = answer[length - 4..].try_into().unwrap();
    (answer[7] > 0).then(|| octets.into())
}

fn ask_over_tcp(netns: &NetNs, name: &str) -> Option<IpAddr> {
    use std::io::{Read, Write};
    let mut stream = crate::mesh::connect(netns, POD_RESOLVER.parse().unwrap()).ok()?;
    let query = query(name);
    let length = (query.len() as u16).to_be_bytes();
    stream.write_all(&[&length[..], &query].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    let octets: [u8; 4] = answer[answer.len() - 4..].try_into().unwrap();
    (answer[7] > 0).then(|| octets.into())
}

#[test]
fn captured_queries_are_answered_by_the_mesh_or_by_the_resolver() {
    let mut mesh = Mesh::start();
    let (dns, client) = (mesh.pod("dns"), mesh.pod("client"));
    let seen = resolver(&dns, Ipv4Addr::new(192, 0, 2, 1));
    mesh.enrol(&client);
    mesh.control()
        .put_service(&service("web", "10.96.0.1", 8080));
    assert_eq!(ask(&client.netns, "web"), None, "not captured");
    let capturing = Redirect {
        dns: true,
        ..Redirect::default()
    };
    redirect::install(&client.netns, &capturing).unwrap();

    let vip: IpAddr = "10.96.0.1".parse().unwrap();
    mesh.eventually("a name of the mesh", || {
        (ask(&client.netns, "web.default.svc.cluster.local")? == vip).then_some(())
    });
    assert_eq!(ask(&client.netns, "web"), Some(vip));
    assert_eq!(ask_over_tcp(&client.netns, "web.default"), Some(vip));
    assert!(seen.lock().unwrap().is_empty());
    let outside: IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(ask(&client.netns, "example.com"), Some(outside));
    let from: Vec<IpAddr> = seen.lock().unwrap().iter().map(SocketAddr::ip).collect();
    assert_eq!(from, [client.ip], "it leaves from the pod");

    let metrics = mesh.page(15020, "/metrics");
    for start in [
        "istio_dns_requests_total{request_query_type=\"a\",request_protocol=\"udp\",source_canonical_service=\"client\"",
        "istio_dns_requests_total{request_query_type=\"a\",request_protocol=\"tcp\",source_canonical_service=\"client\"",
        "istio_dns_upstream_requests_total{request_query_type=\"a\",request_protocol=\"udp\"",
    ] {
        assert!(
            metrics.lines().any(|l| l.starts_with(start)),
            "no {start} in {metrics}"
        );
    }
    // The sockets are the pod's own: another worker process serves on.
    mesh.signal(mesh.worker(), "-KILL");
    mesh.eventually("the next worker", || {
        (ask(&client.netns, "web")? == vip).then_some(())
    });
}

#[test]
fn a_workload_that_has_only_a_name_is_found_by_the_resolver() {
    let mut mesh = Mesh::start();
    let (dns, client, server) = (mesh.pod("dns"), mesh.pod("client"), mesh.pod("server"));
    let IpAddr::V4(answer) = server.ip else {
        panic!("{}", server.ip)
    };
    let seen = resolver(&dns, answer);
    application(&server.netns, 8080);
    mesh.enrol(&client);
    let mut entry = service("db", "240.240.0.1", 8080);
    entry.hostname = "db.example.com".into();
    let mut named = outside(&server);
    named.addresses.clear();
    named.hostname = "db.example.com".into();
    named.tunnel = Tunnel::None;
    named.services = [(entry.key(), vec![port(8080)])].into();
    mesh.control().put_workload(&named);
    mesh.control().put_service(&entry);
    let greeting = mesh.eventually("the named workload", || {
        talk(&client.netns, "240.240.0.1:80".parse().unwrap()).ok()
    });
    assert_eq!(greeting, client.ip.to_string());
    let line = mesh.logged(&["connection complete", "dst.service=\"db.example.com\""]);
    assert!(
        line.contains(&format!("dst.addr={}:8080", server.ip)),
        "{line}"
    );
    let asked = seen.lock().unwrap().len();
    for _ in 0..10 {
        talk(&client.netns, "240.240.0.1:80".parse().unwrap()).unwrap();
    }
    // Each of the two workers asks once, for each family.
    assert!(
        seen.lock().unwrap().len() <= asked + 2,
        "answers are remembered"
    );
    let metrics = mesh.page(15020, "/metrics");
    let counted = |l: &str| {
        l.starts_with("istio_on_demand_dns_total{source_workload=\"client\"")
            && l.contains("hostname=\"db.example.com\"")
    };
    assert!(metrics.lines().any(counted), "{metrics}");
}
