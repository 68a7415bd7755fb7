//! Discovery messages and what they carry.

use prost::Message as _;
use tulle_proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status,
};
use tulle_proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE, security, workload};

pub(crate) fn address() -> Vec<Vec<u8>> {
    let port = workload::Port {
        service_port: 80,
        target_port: 8080,
        app_protocol: 1,
    };
    let ports = workload::PortList { ports: vec![port] };
    let pod = workload::Workload {
        uid: "Kubernetes//Pod/default/web".to_owned(),
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        addresses: vec![vec![10, 0, 0, 2], vec![0xfd; 16]],
        tunnel_protocol: 1,
        services: [(
            "default/web.default.svc.cluster.local".to_owned(),
            ports.clone(),
        )]
        .into(),
        authorization_policies: vec!["default/p".to_owned()],
        capacity: Some(3),
        ..workload::Workload::default()
    };
    let service = workload::Service {
        name: "web".to_owned(),
        namespace: "default".to_owned(),
        hostname: "web.default.svc.cluster.local".to_owned(),
        addresses: vec![workload::NetworkAddress {
            network: "n".to_owned(),
            address: vec![10, 96, 0, 1],
            length: None,
        }],
        ports: ports.ports,
        load_balancing: Some(workload::LoadBalancing {
            routing_preference: vec![6, 1, 2],
            mode: 2,
            health_policy: 0,
        }),
        canonical: true,
        ..workload::Service::default()
    };
    use workload::address::Type;
    [Type::Workload(pod), Type::Service(service)]
        .map(|kind| workload::Address { r#type: Some(kind) }.encode_to_vec())
        .to_vec()
}

pub(crate) fn authorization() -> Vec<Vec<u8>> {
    use security::string_match::MatchType;
    let text = |kind| security::StringMatch {
        match_type: Some(kind),
    };
    let one = security::Match {
        principals: vec![
            text(MatchType::Exact("cluster.local/ns/a/sa/b".to_owned())),
            text(MatchType::Presence(())),
        ],
        not_namespaces: vec![text(MatchType::Suffix("x".to_owned()))],
        source_ips: vec![security::Address {
            address: vec![10, 0, 0, 0],
            length: 8,
        }],
        destination_ports: vec![80, 443],
        service_accounts: vec![security::ServiceAccountMatch {
            namespace: "a".to_owned(),
            service_account: "b".to_owned(),
        }],
        ..security::Match::default()
    };
    let policy = security::Authorization {
        name: "p".to_owned(),
        namespace: "default".to_owned(),
        scope: 2,
        action: 1,
        rules: vec![security::Rule {
            clauses: vec![security::Clause { matches: vec![one] }],
        }],
        ..security::Authorization::default()
    };
    vec![policy.encode_to_vec()]
}

pub(crate) fn xds_answer() -> Vec<Vec<u8>> {
    let resource = |name: &str, version: &str| Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        ..Resource::default()
    };
    let answer = DeltaDiscoveryResponse {
        system_version_info: "7+more".to_owned(),
        type_url: ADDRESS_TYPE.to_owned(),
        nonce: "1-1".to_owned(),
        resources: vec![
            resource("a", "00000000000000ff"),
            resource("b", "words"),
            resource("a", "1"),
        ],
        removed_resources: vec!["c".to_owned(), "a".to_owned()],
    };
    vec![answer.encode_to_vec()]
}

/// Requests behind their lengths: a first one, an acknowledgement, a rejection, names and their taking back.
pub(crate) fn xds_requests() -> Vec<Vec<u8>> {
    let request = |type_url: &str| DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let requests = [
        DeltaDiscoveryRequest {
            node: Some(Node::default()),
            initial_resource_versions: [("a".to_owned(), "x".to_owned())].into(),
            ..request(ADDRESS_TYPE)
        },
        DeltaDiscoveryRequest {
            response_nonce: "00000007-1".to_owned(),
            ..request(ADDRESS_TYPE)
        },
        DeltaDiscoveryRequest {
            resource_names_subscribe: names(&["*", "p", "q"]),
            ..request(AUTHORIZATION_TYPE)
        },
        DeltaDiscoveryRequest {
            response_nonce: "00000007-2".to_owned(),
            error_detail: Some(Status::default()),
            resource_names_unsubscribe: names(&["*", "q"]),
            ..request(AUTHORIZATION_TYPE)
        },
    ];
    let framed = requests.map(|request| {
        let bytes = request.encode_to_vec();
        [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
    });
    vec![framed.concat(), framed[..2].concat(), framed[2..].concat()]
}
