//! Client and server over loopback sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tulle_identity::{
    Authority, CertificateRequest, Certificates, IssueError, Issuer, Settings, Silent,
};
use tulle_model::Identity;
use tulle_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tulle_proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tulle_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};

use self::plane::{Client, Files, NAME, PATIENCE, POD, Plane, TOKEN, holds, node, put, synced};
use super::*;
use crate::ca::CertificateAuthority;
use crate::endpoint::Endpoint;

mod plane;

#[tokio::test]
async fn a_proxy_follows_the_control_plane() {
    let publisher = Publisher::new();
    publisher.publish(ADDRESS_TYPE, vec![put("pod/1", "one"), put("pod/2", "two")]);
    publisher.publish(AUTHORIZATION_TYPE, vec![put("ns/p", "policy")]);
    let plane = Plane::start(publisher.clone(), true).await;
    let files = Files::new(TOKEN);
    let client = Client::start(plane.endpoint(&files, "https"), node());
    client.until("first sync", synced).await;
    let batches = client.batches();
    assert_eq!(batches[0].0, AUTHORIZATION_TYPE, "policies first");
    assert_eq!(batches[1].0, ADDRESS_TYPE);
    publisher.publish(
        ADDRESS_TYPE,
        vec![put("pod/2", "changed"), Change::remove("pod/1")],
    );
    client
        .until("change", |seen| {
            holds(seen, "pod/2", "changed") && seen.held.len() == 2
        })
        .await;
    let last = client.batches().pop().unwrap();
    assert_eq!(last.1, ["pod/2"], "only what changed");

    // The server knows who is connected, and that all is acknowledged.
    let current = publisher.sequence();
    let acknowledged = async {
        loop {
            let connected = plane.server.counters.connected();
            if connected[0].acknowledged.get(ADDRESS_TYPE) == Some(&(current, None)) {
                return connected;
            }
            tokio::task::yield_now().await;
        }
    };
    let connected = timeout(PATIENCE, acknowledged).await.unwrap();
    assert!(
        connected[0]
            .node
            .starts_with("ztunnel~10.0.0.7~ztunnel-abcde.istio-system~")
    );
    drop(client);
    let gone = async {
        while !plane.server.counters.connected().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn a_proxy_is_in_sync_only_when_it_has_everything() {
    let publisher = Publisher::new();
    let body = "x".repeat(100 * 1024);
    let many = (0..20).map(|n| put(&format!("pod/{n}"), &body));
    publisher.publish(ADDRESS_TYPE, many.collect());
    let plane = Plane::start(publisher, true).await;
    let files = Files::new(TOKEN);
    let client = Client::start(plane.endpoint(&files, "https"), node());
    client.until("first sync", synced).await;
    let seen = client.proxy.0.borrow();
    assert_eq!(seen.held_at_sync[ADDRESS_TYPE], 20);
    assert!(seen.batches.len() > 4, "the answer was split");
}

#[tokio::test]
async fn after_a_restart_of_the_control_plane_only_differences_travel() {
    let content = |extra: Vec<Change>| {
        let publisher = Publisher::new();
        let many = (0..500).map(|n| put(&format!("pod/{n}"), &format!("body {n}")));
        publisher.publish(ADDRESS_TYPE, many.collect());
        publisher.publish(ADDRESS_TYPE, extra);
        publisher.publish(AUTHORIZATION_TYPE, vec![put("ns/p", "policy")]);
        publisher
    };
    let files = Files::new(TOKEN);
    let plane = Plane::start(content(vec![]), true).await;
    let client = Client::start(plane.endpoint(&files, "https"), node());
    client.until("first sync", synced).await;
    let before = client.batches().len();
    let (address, authority) = plane.stop().await;
    client
        .until("the end is told", |seen| !seen.errors.is_empty())
        .await;
    assert_eq!(client.proxy.0.borrow().held.len(), 501, "knowledge stays");

    let changed = vec![put("pod/1", "new"), Change::remove("pod/2")];
    let plane = Plane::at(address, authority, content(changed), true).await;
    client
        .until("second sync", |seen| {
            seen.synced.get(ADDRESS_TYPE) == Some(&2)
        })
        .await;
    let batches = client.batches()[before..].to_vec();
    assert_eq!(
        batches,
        [
            (AUTHORIZATION_TYPE.to_owned(), vec![], vec![]),
            (
                ADDRESS_TYPE.to_owned(),
                vec!["pod/1".to_owned()],
                vec!["pod/2".to_owned()]
            ),
        ]
    );
    assert_eq!(plane.server.counters.types()[ADDRESS_TYPE].resources, 1);
    assert_eq!(client.proxy.0.borrow().held.len(), 500);
}

#[tokio::test]
async fn a_bad_resource_spoils_neither_its_batch_nor_the_stream() {
    let publisher = Publisher::new();
    publisher.publish(ADDRESS_TYPE, vec![put("good", "1"), put("worse", "bad")]);
    let plane = Plane::start(publisher.clone(), true).await;
    let files = Files::new(TOKEN);
    let client = Client::start(plane.endpoint(&files, "https"), node());
    client
        .until("the good one", |seen| holds(seen, "good", "1"))
        .await;
    publisher.publish(ADDRESS_TYPE, vec![put("next", "1")]);
    client
        .until("the stream goes on", |seen| holds(seen, "next", "1"))
        .await;
    let counts = plane.server.counters.types()[ADDRESS_TYPE];
    assert_eq!(counts.rejected, 1);
    assert_eq!(counts.resources, 3, "the rejected one was not repeated");
    publisher.publish(ADDRESS_TYPE, vec![put("worse", "better")]);
    client
        .until("mended", |seen| holds(seen, "worse", "better"))
        .await;

    // A client that reconnects is given again what it had rejected, and told when it is gone.
    publisher.publish(ADDRESS_TYPE, vec![put("worse", "bad")]);
    client
        .until("rejected again", |seen| seen.batches.len() >= 5)
        .await;
    let (address, authority) = plane.stop().await;
    let replica = Publisher::new();
    replica.publish(ADDRESS_TYPE, vec![put("good", "1"), put("next", "1")]);
    let _plane = Plane::at(address, authority, replica, true).await;
    client
        .until("removal after a rejection", |seen| {
            seen.batches.last().unwrap().2 == ["worse"]
        })
        .await;
}

#[tokio::test]
async fn callers_without_good_credentials_are_refused_with_the_reason() {
    let plane = Plane::start(Publisher::new(), true).await;
    let plain = Plane::start(Publisher::new(), false).await;
    for (token, words) in [
        ("stolen", "the token's audience is not istio-ca"),
        ("later", "the API server is away"),
    ] {
        for (plane, scheme) in [(&plane, "https"), (&plain, "http")] {
            let files = Files::new(token);
            let client = Client::start(plane.endpoint(&files, scheme), node());
            client
                .until("an error", |seen| !seen.errors.is_empty())
                .await;
            let error = client.proxy.0.borrow().errors[0].clone();
            assert!(error.contains(words), "{error}");
            assert_eq!(client.proxy.0.borrow().connected, 0);
        }
    }
    let files = Files::new(TOKEN);
    let mut endpoint = plain.endpoint(&files, "http");
    endpoint.token = None;
    let client = Client::start(endpoint, node());
    client
        .until("an error", |seen| !seen.errors.is_empty())
        .await;
    let error = client.proxy.0.borrow().errors[0].clone();
    assert!(error.contains("no credentials"), "{error}");
    assert!(plain.server.counters.refused_callers() >= 3);
    // With a token the plaintext port serves as well; a token that was mended is read again.
    let files = Files::new("stolen");
    let client = Client::start(plain.endpoint(&files, "http"), node());
    client
        .until("an error", |seen| !seen.errors.is_empty())
        .await;
    files.write("token", &format!("{TOKEN}\n"));
    client.until("mended", synced).await;
}

#[tokio::test]
async fn a_node_of_another_namespace_than_its_token_is_refused() {
    let plane = Plane::start(Publisher::new(), true).await;
    let files = Files::new(TOKEN);
    let mut liar = node();
    liar.namespace = "default".into();
    let client = Client::start(plane.endpoint(&files, "https"), liar);
    client
        .until("an error", |seen| !seen.errors.is_empty())
        .await;
    let error = client.proxy.0.borrow().errors[0].clone();
    assert!(
        error.contains("metadata says NAMESPACE default, its credentials say istio-system"),
        "{error}"
    );
    assert!(client.batches().is_empty());
}

#[tokio::test]
async fn errors_say_where_and_why_and_new_roots_are_read() {
    let files = Files::new(TOKEN);
    let plane = Plane::start(Publisher::new(), true).await;
    let mut endpoint = plane.endpoint(&files, "https");
    let first_error = async |endpoint: Endpoint| {
        let client = Client::start(endpoint, node());
        client
            .until("an error", |seen| !seen.errors.is_empty())
            .await;
        client.proxy.0.borrow().errors[0].clone()
    };
    // Nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let mut dead = endpoint.clone();
    dead.address = format!("https://{nobody}");
    let error = first_error(dead).await;
    assert!(
        error.starts_with(&format!("cannot reach {nobody}: ")),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
    assert!(
        error.ends_with("the proxy goes on with what it knows"),
        "{error}"
    );
    // Another name, another file, nonsense.
    endpoint.server_name = None;
    assert!(
        first_error(endpoint.clone())
            .await
            .contains("not valid for")
    );
    endpoint.server_name = Some(NAME.to_owned());
    let mut lost = endpoint.clone();
    lost.token = Some(files.path("no such file"));
    let error = first_error(lost).await;
    assert!(
        error.contains("cannot read the token") && error.contains("no such file"),
        "{error}"
    );
    let mut odd = endpoint.clone();
    odd.address = "istiod:15012".to_owned();
    assert!(
        first_error(odd)
            .await
            .contains("not of the form https://host:port")
    );
    // Roots that do not fit, then do.
    let other = Authority::new_self_signed("cluster.local").unwrap();
    files.write("root", other.root_pem());
    let client = Client::start(endpoint, node());
    client
        .until("an error", |seen| !seen.errors.is_empty())
        .await;
    let error = client.proxy.0.borrow().errors[0].clone();
    assert!(
        error.contains("not signed by a root that we trust"),
        "{error}"
    );
    files.write(
        "root",
        &(other.root_pem().to_owned() + plane.authority.root_pem()),
    );
    client.until("the new bundle", synced).await;
}

#[tokio::test]
async fn certificates_come_through_the_service() {
    let plane = Plane::start(Publisher::new(), true).await;
    let files = Files::new(TOKEN);
    let ca = Arc::new(CertificateAuthority::new(plane.endpoint(&files, "https")));
    let (store, renewal) = Certificates::new(ca.clone(), Arc::new(Silent), Settings::default());
    let renewal = tokio::spawn(renewal.run());
    let pod: Identity = POD.parse().unwrap();
    let epoch = timeout(PATIENCE, store.get(&pod)).await.unwrap().unwrap();
    assert_eq!(epoch.identity, pod);
    assert_eq!(epoch.credentials.roots_pem(), plane.authority.root_pem());
    // Many at once, over one connection.
    let gets = (0..30).map(|n| {
        let (store, name) = (store.clone(), format!("sa-{n}"));
        async move {
            store
                .get(&Identity::new("cluster.local", "default", name))
                .await
        }
    });
    for epoch in futures_util::future::join_all(gets).await {
        epoch.unwrap();
    }
    assert_eq!(plane.server.counters.signed(), 31);
    // Refused: who may not have it, another mesh, garbage, another key type.
    let forbidden = Identity::new("cluster.local", "default", "forbidden");
    let error = store.get(&forbidden).await.unwrap_err().to_string();
    assert!(
        error.contains("no pod of spiffe://cluster.local/ns/default/sa/forbidden"),
        "{error}"
    );
    let stranger = Identity::new("other.mesh", "default", "sleep");
    let error = store.get(&stranger).await.unwrap_err().to_string();
    assert!(error.contains("not of this mesh's trust domain"), "{error}");
    let hour = Duration::from_secs(3600);
    let error = ca
        .issue(&pod, "rubbish".to_owned(), hour)
        .await
        .unwrap_err();
    assert!(matches!(error, IssueError::Refused { .. }), "{error}");
    let error = ca.issue(&pod, "x".repeat(1 << 20), hour).await.unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
    let csr = || CertificateRequest::new(&pod).unwrap().csr_pem;
    let error = ca.issue(&pod, csr(), 100 * 24 * hour).await.unwrap_err();
    assert!(error.to_string().contains("at most"), "{error}");
    // A bad token, and nobody there.
    files.write("token", "stolen");
    let error = ca.issue(&pod, csr(), hour).await.unwrap_err();
    assert!(error.to_string().contains("audience"), "{error}");
    files.write("token", TOKEN);
    plane.stop().await;
    let error = ca.issue(&pod, csr(), hour).await.unwrap_err();
    assert!(matches!(error, IssueError::Unreachable { .. }), "{error}");
    renewal.abort();
}

async fn channel(plane: &Plane, files: &Files) -> tonic::transport::Channel {
    plane.endpoint(files, "https").connect().await.unwrap()
}

#[tokio::test]
async fn other_methods_are_unimplemented() {
    let plane = Plane::start(Publisher::new(), true).await;
    let files = Files::new(TOKEN);
    let mut grpc = tonic::client::Grpc::new(channel(&plane, &files).await);
    grpc.ready().await.unwrap();
    let codec: ProstCodec<DeltaDiscoveryRequest, DeltaDiscoveryResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/Anything",
    );
    let empty = Request::new(tokio_stream::empty());
    let status = grpc
        .streaming(empty, path, codec)
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

/// As a generated client, which is what upstream's proxy is.
async fn foreign_stream(
    plane: &Plane,
    files: &Files,
    requests: Vec<DeltaDiscoveryRequest>,
) -> Result<DeltaDiscoveryResponse, Status> {
    let (send, queue) = tokio::sync::mpsc::channel(16);
    for request in requests {
        send.send(request).await.unwrap();
    }
    let mut request = Request::new(ReceiverStream::new(queue));
    let token = format!("bearer {TOKEN}").parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    let mut client = AggregatedDiscoveryServiceClient::new(channel(plane, files).await);
    let mut answers = client
        .delta_aggregated_resources(request)
        .await?
        .into_inner();
    let answer = answers.message().await?;
    answer.ok_or_else(|| Status::ok("ended"))
}

#[tokio::test]
async fn a_generated_client_is_served_and_held_to_the_rules() {
    let publisher = Publisher::new();
    publisher.publish(ADDRESS_TYPE, vec![put("pod/1", "one")]);
    let plane = Plane::start(publisher, true).await;
    let files = Files::new(TOKEN);
    let first = DeltaDiscoveryRequest {
        node: Some(node().to_wire()),
        type_url: ADDRESS_TYPE.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let answer = foreign_stream(&plane, &files, vec![first.clone()])
        .await
        .unwrap();
    assert_eq!(answer.resources[0].name, "pod/1");
    assert_eq!(answer.resources[0].version.len(), 16);
    let any = answer.resources[0].resource.clone().unwrap();
    assert_eq!((&*any.type_url, &*any.value), (ADDRESS_TYPE, &b"one"[..]));

    let nameless = DeltaDiscoveryRequest {
        node: None,
        ..first.clone()
    };
    let status = foreign_stream(&plane, &files, vec![nameless])
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let typeless = DeltaDiscoveryRequest {
        type_url: String::new(),
        ..first
    };
    let status = foreign_stream(&plane, &files, vec![typeless])
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn rubbish_on_either_port_disturbs_nobody() {
    for secure in [true, false] {
        let publisher = Publisher::new();
        let plane = Plane::start(publisher.clone(), secure).await;
        let files = Files::new(TOKEN);
        let scheme = if secure { "https" } else { "http" };
        let client = Client::start(plane.endpoint(&files, scheme), node());
        client.until("first sync", synced).await;
        for rubbish in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            &[0xff; 4096],
            b"\x16\x03\x01\xff\xff",
        ] {
            let mut tcp = TcpStream::connect(plane.address).await.unwrap();
            tcp.write_all(rubbish).await.unwrap();
            tcp.shutdown().await.unwrap();
            let mut rest = Vec::new();
            // Reset or closed: both are an end.
            let ended = timeout(PATIENCE, tcp.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "the connection must end");
        }
        publisher.publish(ADDRESS_TYPE, vec![put("pod/1", "one")]);
        client
            .until("still served", |seen| holds(seen, "pod/1", "one"))
            .await;
        assert_eq!(client.proxy.0.borrow().errors.len(), 0);
    }
}

#[tokio::test]
async fn a_stop_ends_streams_in_good_order() {
    let plane = Plane::start(Publisher::new(), true).await;
    let files = Files::new(TOKEN);
    let client = Client::start(plane.endpoint(&files, "https"), node());
    client.until("first sync", synced).await;
    timeout(PATIENCE, plane.stop())
        .await
        .expect("well before the grace is over");
    client.until("told", |seen| !seen.errors.is_empty()).await;
    let error = client.proxy.0.borrow().errors[0].clone();
    assert!(error.contains("ended the stream"), "{error}");
}

/// What `istioctl proxy-status` is told.
async fn syncz(plane: &Plane, files: &Files, type_url: &str) -> Result<DiscoveryResponse, Status> {
    let channel = plane.endpoint(files, "https").connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    // With a nonce, as istioctl does it.
    let ask = DiscoveryRequest {
        type_url: type_url.to_owned(),
        response_nonce: "now".to_owned(),
        ..DiscoveryRequest::default()
    };
    let acknowledge = DiscoveryRequest {
        response_nonce: "any".to_owned(),
        ..ask.clone()
    };
    let (send, queue) = mpsc::channel(4);
    send.try_send(ask).unwrap();
    send.try_send(acknowledge).unwrap();
    let mut request = Request::new(ReceiverStream::new(queue));
    *request.metadata_mut() = plane.endpoint(files, "https").metadata().await.unwrap();
    let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
    let path = PathAndQuery::from_static(crate::wire::STATE_PATH);
    let mut answers = grpc.streaming(request, path, codec).await?.into_inner();
    let answer = answers.message().await?.unwrap();
    drop(send);
    assert_eq!(answers.message().await?, None, "asked once, answered once");
    Ok(answer)
}

#[tokio::test]
async fn tools_are_told_who_is_connected_and_up_to_date() {
    use prost::Message as _;
    use tulle_proto::discovery::{ClientConfig, ConfigStatus};

    let publisher = Publisher::new();
    publisher.publish(ADDRESS_TYPE, vec![put("pod/1", "one")]);
    let plane = Plane::start(publisher, true).await;
    let files = Files::new(TOKEN);
    let client = Client::start(plane.endpoint(&files, "https"), node());
    client.until("first sync", synced).await;
    let config = timeout(PATIENCE, async {
        loop {
            let answer = syncz(&plane, &files, "istio.io/debug/syncz").await.unwrap();
            let resource = answer.resources.first().unwrap();
            assert!(
                resource
                    .type_url
                    .ends_with("/envoy.service.status.v3.ClientConfig")
            );
            let config = ClientConfig::decode(&*resource.value).unwrap();
            let of = |c: &tulle_proto::discovery::client_config::GenericXdsConfig| {
                c.config_status == ConfigStatus::Synced as i32
            };
            if config.generic_xds_configs.len() == 2 && config.generic_xds_configs.iter().all(of) {
                let identifier = answer.control_plane.unwrap().identifier;
                assert!(
                    identifier.contains("\"Component\":\"istiod\""),
                    "{identifier}"
                );
                return config;
            }
        }
    })
    .await
    .unwrap();
    let node = config.node.unwrap();
    assert_eq!(node.id, "ztunnel-abcde.istio-system");
    let version = crate::node::metadata_text(&node, "ISTIO_VERSION");
    assert_eq!(version, Some(env!("CARGO_PKG_VERSION")));

    let refused = syncz(&plane, &files, ADDRESS_TYPE).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
    files.write("token", "bad");
    let refused = syncz(&plane, &files, "istio.io/debug/syncz").await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    files.write("token", TOKEN);
}
