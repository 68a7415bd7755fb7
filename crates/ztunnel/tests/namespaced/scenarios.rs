//! What users see.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use tulle_model::{ServiceKey, Tunnel};
use tulle_policy::{Action, Clause, Match, Policy, Rule, Scope, StringMatch};

use crate::mesh::{
    Mesh, Talking, application, connect, echo, greeting, is_reset, port, service, talk, told,
    workload,
};

fn to(ip: std::net::IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn deny_principal(name: &str, principal: &str, scope: Scope) -> Policy {
    let matching = Match {
        principals: vec![StringMatch::Exact(principal.into())],
        ..Match::default()
    };
    policy(name, scope, Action::Deny, matching)
}

fn policy(name: &str, scope: Scope, action: Action, matching: Match) -> Policy {
    let mut policy = Policy::new("default", name, scope, action);
    policy.rules = vec![Rule {
        clauses: vec![Clause {
            matches: vec![matching],
        }],
    }];
    policy
}

#[test]
fn between_pods_everything_is_a_tunnel_and_the_server_sees_the_client() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    let mut known = workload(&server);
    let web = service("web", "10.96.0.1", 8080);
    known.services = [(web.key(), vec![port(8080)])].into();
    mesh.enrol(&server);
    mesh.control().put_service(&web);
    mesh.control().put_workload(&known);
    mesh.ready();

    assert_eq!(
        talk(&client.netns, to(server.ip, 8080)).unwrap(),
        client.ip.to_string()
    );
    mesh.eventually("the service", || {
        talk(&client.netns, "10.96.0.1:80".parse().unwrap()).ok()
    });

    let line = mesh.logged(&[
        "connection complete",
        "direction=\"outbound\"",
        "dst.service=\"web.default",
    ]);
    for part in [
        format!("src.addr={}:", client.ip),
        "src.workload=\"client\" src.namespace=\"default\" src.identity=\"spiffe://cluster.local/ns/default/sa/client\"".to_owned(),
        format!("dst.addr={}:15008 dst.hbone_addr={}:8080 dst.service=\"web.default.svc.cluster.local\"", server.ip, server.ip),
        "dst.identity=\"spiffe://cluster.local/ns/default/sa/server\"".to_owned(),
        format!("bytes_sent=6 bytes_recv={}", 6 + client.ip.to_string().len() + 1),
    ] {
        assert!(line.contains(&part), "no {part} in {line}");
    }
    let line = mesh.logged(&[
        "connection complete",
        "direction=\"inbound\"",
        "dst.service=\"web.default",
    ]);
    assert!(line.contains("src.workload=\"client\""), "{line}");

    let metrics = mesh.page(15020, "/metrics");
    let opened = |reporter: &str| {
        let start = format!(
            "istio_tcp_connections_opened_total{{reporter=\"{reporter}\",source_workload=\"client\""
        );
        metrics.lines().any(|l| {
            l.starts_with(&start) && l.contains("connection_security_policy=\"mutual_tls\"")
        })
    };
    assert!(opened("source") && opened("destination"), "{metrics}");

    let dump: serde_json::Value = serde_json::from_str(&mesh.page(15000, "/config_dump")).unwrap();
    let names: Vec<&str> = dump["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["client", "server"]);
    assert_eq!(dump["workloads"][1]["protocol"], "HBONE");
    assert_eq!(dump["services"][0]["vips"][0], "/10.96.0.1");
    assert_eq!(
        dump["certificates"][0]["identity"],
        "spiffe://cluster.local/ns/default/sa/client"
    );
    assert_eq!(dump["certificates"][0]["state"], "Available");
    assert_eq!(dump["workloadState"]["uid-server"]["state"], "Up");
}

#[test]
fn large_transfers_and_half_close_arrive_whole() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let mut stream = connect(&client.netns, to(server.ip, 8080)).unwrap();
    greeting(&mut stream).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(
        back == sent,
        "{} of {} bytes came back",
        back.len(),
        sent.len()
    );
}

#[test]
fn a_denial_is_a_reset_and_takes_effect_on_live_connections() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let mut live = connect(&client.netns, to(server.ip, 8080)).unwrap();
    greeting(&mut live).unwrap();
    echo(&mut live, b"before").unwrap();

    let deny = deny_principal(
        "no-client",
        "cluster.local/ns/default/sa/client",
        Scope::Namespace,
    );
    mesh.control().put_policy(&deny);
    // The live connection is cut without anybody sending anything.
    let cut = live.read(&mut [0]);
    assert!(
        matches!(&cut, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset),
        "{cut:?}"
    );
    assert!(is_reset(&client.netns, to(server.ip, 8080)));
    // A client sees first that it is connected, and then the reset: it must not take it for a port where nobody listens.
    let mut refused = connect(&client.netns, to(server.ip, 8080)).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert!(refused.take_error().unwrap().is_none());
    assert!(echo(&mut refused, b"hello?").is_err());
    mesh.logged(&[
        "\terror\taccess\t",
        "direction=\"inbound\"",
        "error=\"policy rejection: denied by policy default/no-client rule 0\"",
    ]);
    mesh.logged(&[
        "direction=\"inbound\"",
        "error=\"policy rejection while connected: denied by policy default/no-client rule 0\"",
    ]);
    // The client's side learns the code only.
    let outbound = mesh.logged(&["direction=\"outbound\"", "error=\""]);
    assert!(!outbound.contains("no-client"), "{outbound}");
    let metrics = mesh.page(15020, "/metrics");
    let failed = |l: &str| {
        l.starts_with("istio_tcp_connections_failed_total{reporter=\"destination\"")
            && l.contains("response_flags=\"DENY\"")
            && l.ends_with(" 3")
    };
    assert!(metrics.lines().any(failed), "{metrics}");

    mesh.control().remove_policy("default/no-client");
    mesh.eventually("access after the policy is gone", || {
        talk(&client.netns, to(server.ip, 8080)).ok()
    });
}

#[test]
fn an_allow_policy_names_who_was_considered() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    let matching = Match {
        principals: vec![StringMatch::Exact(
            "cluster.local/ns/default/sa/other".into(),
        )],
        ..Match::default()
    };
    mesh.control().put_policy(&policy(
        "only-other",
        Scope::Workload,
        Action::Allow,
        matching,
    ));
    mesh.enrol(&server);
    let mut selected = workload(&server);
    selected.policies = vec!["default/only-other".into()];
    mesh.control().put_workload(&selected);
    // The first reset may be of a connection that was open when the news came.
    mesh.eventually("a refusal of a new connection", || {
        let refused = is_reset(&client.netns, to(server.ip, 8080));
        let why = "error=\"policy rejection: no allow policy of default/only-other matched\"";
        (refused && mesh.log().contains(why)).then_some(())
    });
}

#[test]
fn strict_refuses_plaintext_and_permissive_passes_it_with_its_source() {
    let mut mesh = Mesh::start();
    let (outside, inside, server) = (mesh.pod("outside"), mesh.pod("inside"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&inside);
    mesh.enrol(&server);
    assert_eq!(
        talk(&outside.netns, to(server.ip, 8080)).unwrap(),
        outside.ip.to_string()
    );
    mesh.logged(&[
        "connection complete",
        "direction=\"inbound\"",
        &format!("src.addr={}:", outside.ip),
    ]);

    // As PeerAuthentication STRICT is translated: deny who has no principal.
    let nobody = Match {
        not_principals: vec![StringMatch::Presence],
        ..Match::default()
    };
    mesh.control()
        .put_policy(&policy("strict", Scope::Namespace, Action::Deny, nobody));
    mesh.eventually("a reset", || {
        is_reset(&outside.netns, to(server.ip, 8080)).then_some(())
    });
    assert_eq!(
        talk(&inside.netns, to(server.ip, 8080)).unwrap(),
        inside.ip.to_string()
    );
    mesh.logged(&[
        "direction=\"inbound\"",
        "denied by policy default/strict rule 0",
    ]);
}

#[test]
fn what_the_mesh_does_not_know_passes_through() {
    let mut mesh = Mesh::start();
    let (client, stranger) = (mesh.pod("client"), mesh.pod("stranger"));
    application(&stranger.netns, 8080);
    mesh.enrol(&client);
    assert_eq!(
        talk(&client.netns, to(stranger.ip, 8080)).unwrap(),
        client.ip.to_string()
    );
    let line = mesh.logged(&["connection complete", "direction=\"outbound\""]);
    assert!(
        !line.contains("identity") && !line.contains("hbone_addr"),
        "{line}"
    );
    // Nobody listens there: the client sees a reset, not an orderly end.
    assert!(is_reset(&client.netns, to(stranger.ip, 8081)));
}

#[test]
fn a_workload_without_tunnel_is_reached_in_plain() {
    let mut mesh = Mesh::start();
    let (client, plain) = (mesh.pod("client"), mesh.pod("plain"));
    application(&plain.netns, 8080);
    mesh.enrol(&client);
    let mut known = workload(&plain);
    known.tunnel = Tunnel::None;
    let web = service("web", "10.96.0.1", 8080);
    known.services = [(web.key(), vec![port(8080)])].into();
    mesh.control().put_service(&web);
    mesh.control().put_workload(&known);
    mesh.eventually("the service", || {
        talk(&client.netns, "10.96.0.1:80".parse().unwrap()).ok()
    });
    let line = mesh.logged(&["connection complete", "dst.service=\"web.default"]);
    assert!(
        line.contains("dst.workload=\"plain\"") && !line.contains("hbone_addr"),
        "{line}"
    );
}

#[test]
fn a_service_without_endpoints_and_the_proxys_own_ports_are_refused() {
    let mut mesh = Mesh::start();
    let client = mesh.pod("client");
    mesh.enrol(&client);
    mesh.control()
        .put_service(&service("empty", "10.96.0.9", 8080));
    let vip = "10.96.0.9:80".parse().unwrap();
    mesh.eventually("a refusal", || {
        let reset = is_reset(&client.netns, vip);
        (reset && mesh.log().contains("it has no endpoint")).then_some(())
    });
    mesh.logged(&["\twarn\taccess\tconnection failed\t", "dst.addr=10.96.0.9:80", "service default/empty.default.svc.cluster.local cannot take a connection to port 80: it has no endpoint"]);
    for port in [15001, 15006] {
        assert!(
            talk(&client.netns, to(client.ip, port)).is_err(),
            "port {port}"
        );
    }
}

#[test]
fn a_dead_endpoint_is_exchanged_for_another() {
    let mut mesh = Mesh::start();
    let (client, dead, alive) = (mesh.pod("client"), mesh.pod("dead"), mesh.pod("alive"));
    application(&alive.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&alive);
    let web = service("web", "10.96.0.1", 8080);
    mesh.control().put_service(&web);
    for pod in [&dead, &alive] {
        let mut known = workload(pod);
        known.services = [(web.key(), vec![port(8080)])].into();
        mesh.control().put_workload(&known);
    }
    // `dead` says that it speaks HBONE, and nobody listens there.
    mesh.eventually("the service", || {
        talk(&client.netns, "10.96.0.1:80".parse().unwrap()).ok()
    });
    for _ in 0..20 {
        talk(&client.netns, "10.96.0.1:80".parse().unwrap()).unwrap();
    }
    mesh.logged(&["trying another endpoint"]);
}

#[test]
fn rubbish_on_the_hbone_port_does_no_harm() {
    let mut mesh = Mesh::start();
    let (outside, client, server) = (mesh.pod("outside"), mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let mut rubbish = connect(&outside.netns, to(server.ip, 15008)).unwrap();
    rubbish.write_all(&[0x42; 4000]).unwrap();
    let mut answer = Vec::new();
    // Closed, in whichever way; what comes first is at most a TLS alert.
    let _ = rubbish.read_to_end(&mut answer);
    assert!(answer.len() < 64);
    mesh.logged(&[
        "\twarn\taccess\tconnection failed\t",
        "direction=\"inbound\"",
        "TLS",
    ]);
    talk(&client.netns, to(server.ip, 8080)).unwrap();
}

#[test]
fn after_kill_9_the_successor_serves_at_once_even_without_control_plane() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    talk(&client.netns, to(server.ip, 8080)).unwrap();
    mesh.ready();
    // The copy for the successor follows within a second of the last change.
    std::thread::sleep(Duration::from_millis(2500));
    drop(mesh.control.take());

    for _ in 0..2 {
        let old = mesh.worker();
        mesh.signal(old, "-KILL");
        let killed = Instant::now();
        let mut failures = 0;
        // Clients that come while nobody serves wait in the queue, or are cut with the process that took them.
        while talk(&client.netns, to(server.ip, 8080)).is_err() {
            failures += 1;
            assert!(
                killed.elapsed() < Duration::from_secs(20),
                "not served again\n{}",
                mesh.log()
            );
        }
        eprintln!(
            "served again after {:?}, {failures} failures",
            killed.elapsed()
        );
        assert_ne!(mesh.worker(), old);
    }
    mesh.logged(&["going on where the predecessor stopped"]);
    // Then it finds its control plane again, and what changed meanwhile.
    mesh.start_control();
    for pod in [&client, &server] {
        mesh.control().put_workload(&workload(pod));
    }
    mesh.ready();
    mesh.control().put_policy(&deny_principal(
        "late",
        "cluster.local/ns/default/sa/client",
        Scope::Namespace,
    ));
    mesh.eventually("the new policy", || {
        is_reset(&client.netns, to(server.ip, 8080)).then_some(())
    });
}

#[test]
fn ending_in_order_lets_live_connections_finish() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    let mut live = connect(&client.netns, to(server.ip, 8080)).unwrap();
    greeting(&mut live).unwrap();
    mesh.signal(mesh.keeper(), "-TERM");
    mesh.logged(&["ending: no new connections"]);
    for _ in 0..5 {
        echo(&mut live, b"still here").unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    // No new ones: nobody listens any more.
    mesh.eventually("a refusal", || {
        connect(&client.netns, to(server.ip, 8080))
            .is_err()
            .then_some(())
    });
    drop(live);
    let asked = Instant::now();
    assert_eq!(mesh.ended().code(), Some(0));
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "waited for its deadline although idle"
    );
}

#[test]
fn a_rolling_restart_fails_no_new_connection() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    talk(&client.netns, to(server.ip, 8080)).unwrap();
    let talking = Talking::start(&client.netns, to(server.ip, 8080));
    // As a DaemonSet with maxSurge: the new one is ready before the old one is asked to end. Two proxies share the node here,
    // so the new one's pages live in a namespace of their own.
    let old = mesh.keeper();
    let mut surge = mesh.surge();
    surge.serving(&mesh);
    mesh.signal(old, "-TERM");
    assert_eq!(mesh.ended().code(), Some(0));
    std::thread::sleep(Duration::from_millis(300));
    let (good, bad) = talking.end();
    assert!(
        bad.is_empty() && good > 0,
        "{good} good, bad: {bad:?}\n{}",
        mesh.log()
    );
    surge.end();
}

#[test]
fn the_node_agents_words_are_taken_in_any_order() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    // Twice the same is once.
    assert_eq!(mesh.control().add(told(&server)), "");
    talk(&client.netns, to(server.ip, 8080)).unwrap();
    // The same pod in another namespace replaces it.
    let moved = mesh.pod("server");
    application(&moved.netns, 8080);
    mesh.enrol(&moved);
    mesh.eventually("the moved pod", || {
        talk(&client.netns, to(moved.ip, 8080)).ok()
    });
    // Gone, and gone again.
    assert_eq!(mesh.control().delete("uid-server"), "");
    assert_eq!(mesh.control().delete("uid-server"), "");
    assert_eq!(mesh.control().delete("never-seen"), "");
    let metrics = mesh.page(15020, "/metrics");
    assert!(
        metrics.contains("\nworkload_manager_active_proxy_count 1\n"),
        "{metrics}"
    );
}

#[test]
fn a_pod_that_discovery_does_not_know_is_refused_and_a_waypoint_is_not_passed_by() {
    let mut mesh = Mesh::start();
    let (client, unknown, server) = (mesh.pod("client"), mesh.pod("unknown"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    assert_eq!(mesh.control().add(told(&unknown)), "");
    tulle_linux::redirect::install(&unknown.netns, &tulle_linux::Redirect::default()).unwrap();
    assert!(is_reset(&unknown.netns, to(server.ip, 8080)));
    mesh.logged(&["the pod default/unknown is not known to the mesh yet"]);

    let mut guarded = workload(&server);
    let key = ServiceKey::new("default", "waypoint.default.svc.cluster.local");
    guarded.waypoint = Some(Box::new(tulle_model::GatewayAddress {
        destination: tulle_model::GatewayDestination::Service(key),
        hbone_port: 15008,
    }));
    mesh.control().put_workload(&guarded);
    mesh.eventually("a refusal", || {
        is_reset(&client.netns, to(server.ip, 8080)).then_some(())
    });
    mesh.logged(&[
        "server is behind waypoint default/waypoint.default.svc.cluster.local, but the mesh does not know it",
        "refused rather than led past it",
    ]);
}

#[test]
fn joining_and_leaving_fail_no_connection() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    let talking = Talking::start(&client.netns, to(server.ip, 8080));
    for _ in 0..2 {
        mesh.enrol(&server);
        mesh.enrol(&client);
        std::thread::sleep(Duration::from_millis(300));
        mesh.leave(&server);
        mesh.leave(&client);
        std::thread::sleep(Duration::from_millis(300));
    }
    let (good, bad) = talking.end();
    assert!(
        bad.is_empty() && good > 0,
        "{good} good, bad: {bad:?}\n{}",
        mesh.log()
    );
    assert!(
        mesh.log().contains("dst.hbone_addr="),
        "nothing went through a tunnel meanwhile"
    );
}

#[test]
fn a_pod_reaches_itself() {
    let mut mesh = Mesh::start();
    let pod = mesh.pod("pod");
    application(&pod.netns, 8080);
    mesh.enrol(&pod);
    let web = service("web", "10.96.0.1", 8080);
    let mut known = workload(&pod);
    known.services = [(web.key(), vec![port(8080)])].into();
    mesh.control().put_service(&web);
    mesh.control().put_workload(&known);
    talk(&pod.netns, to(pod.ip, 8080)).unwrap();
    talk(&pod.netns, "127.0.0.1:8080".parse().unwrap()).unwrap();
    mesh.eventually("its own service", || {
        talk(&pod.netns, "10.96.0.1:80".parse().unwrap()).ok()
    });
}

#[test]
fn a_node_agent_that_breaks_the_protocol_is_left_and_pods_stay_served() {
    let mut mesh = Mesh::start();
    let (client, server) = (mesh.pod("client"), mesh.pod("server"));
    application(&server.netns, 8080);
    mesh.enrol(&client);
    mesh.enrol(&server);
    mesh.control().say_nonsense();
    let line = mesh.logged(&["\terror\t", "leaving the node agent for a while"]);
    assert!(
        line.contains("zds.sock") && line.contains("broke its protocol"),
        "{line}"
    );
    talk(&client.netns, to(server.ip, 8080)).unwrap();
    // And dialled again.
    mesh.ready();
}
