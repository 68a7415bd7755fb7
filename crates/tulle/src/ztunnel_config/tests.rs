use super::*;
use crate::cli::Direction;

fn recorded() -> Vec<Dump> {
    vec![Dump::parse(include_bytes!("config_dump.json"), None).unwrap()]
}

#[test]
fn workloads_show_whether_they_speak_hbone() {
    let all = tables::workloads(&recorded(), &Workloads::default()).render();
    let expected = "\
NAMESPACE   POD NAME            ADDRESS            NODE  WAYPOINT PROTOCOL
default     db                  db.example.com           None     TCP
default     productpage-v1-9d4f 10.244.2.9,fd00::9 node2 waypoint HBONE
default     sleep-5c8b          10.244.1.7         node1 None     HBONE
kube-system coredns-1           10.244.1.2         node1 None     TCP
";
    assert_eq!(all, expected);
    let lines = |filter: Workloads<'_>| {
        tables::workloads(&recorded(), &filter)
            .render()
            .lines()
            .count()
            - 1
    };
    assert_eq!(
        lines(Workloads {
            namespace: Some("default"),
            ..Default::default()
        }),
        3
    );
    assert_eq!(
        lines(Workloads {
            node: Some("node1"),
            ..Default::default()
        }),
        2
    );
    assert_eq!(
        lines(Workloads {
            address: Some("fd00::9"),
            ..Default::default()
        }),
        1
    );
    assert_eq!(
        lines(Workloads {
            name: Some("nobody"),
            ..Default::default()
        }),
        0
    );
}

#[test]
fn services_count_healthy_endpoints() {
    let expected = "\
NAMESPACE SERVICE NAME SERVICE VIP       WAYPOINT ENDPOINTS
apps      headless                       None     0/0
default   productpage  10.96.1.1,fd01::1 waypoint 1/2
default   waypoint     10.96.7.7         None     0/0
";
    assert_eq!(tables::services(&recorded(), None).render(), expected);
    assert_eq!(
        tables::services(&recorded(), Some("apps"))
            .render()
            .lines()
            .count(),
        2
    );
}

#[test]
fn policies_show_action_and_scope() {
    let expected = "\
NAMESPACE POLICY NAME ACTION SCOPE
apps      nobody      Deny   Namespace
default   only-sleep  Allow  WorkloadSelector
";
    assert_eq!(tables::policies(&recorded(), None).render(), expected);
}

#[test]
fn certificates_show_chain_validity_and_serial() {
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let expected = "\
CERTIFICATE NAME                           TYPE         STATUS       VALID CERT SERIAL NUMBER                    NOT AFTER            NOT BEFORE
spiffe://cluster.local/ns/default/sa/sleep Leaf         Available    true       e5dfb59150b2ba7f108d93dcec5aa613 2026-11-21T10:02:00Z 2026-11-20T10:00:00Z
spiffe://cluster.local/ns/default/sa/sleep Intermediate Available    true       ff                               2027-11-20T10:00:00Z 2026-11-20T10:00:00Z
spiffe://cluster.local/ns/default/sa/sleep Root         Available    true       1000                             2036-11-17T10:00:00Z 2026-11-20T10:00:00Z
spiffe://cluster.local/ns/default/sa/old   Leaf         Available    false      0                                2020-01-02T00:00:00Z 2020-01-01T00:00:00Z
spiffe://cluster.local/ns/default/sa/new   NA           Initializing false      NA                               NA                   NA
spiffe://cluster.local/ns/default/sa/bad   NA           Unavailable  false      NA                               NA                   NA
";
    assert_eq!(tables::certificates_at(&recorded(), now).render(), expected);
}

#[test]
fn certificates_of_several_nodes_name_the_node() {
    let dump = |node: &str| {
        Dump::parse(include_bytes!("config_dump.json"), Some(node.to_owned())).unwrap()
    };
    let table = tables::certificates(&[dump("node1"), dump("node2")]).render();
    let mut lines = table.lines();
    assert!(lines.next().unwrap().ends_with("NODE"));
    let nodes: Vec<_> = lines.map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(nodes[..6], ["node1"; 6]);
    assert_eq!(nodes[6..], ["node2"; 6]);
}

#[test]
fn connections_name_both_ends() {
    let all = tables::connections(&recorded(), &Connections::default()).render();
    let expected = "\
WORKLOAD           DIRECTION LOCAL                    REMOTE                            REMOTE TARGET                              PROTOCOL
coredns-1.apps     Inbound   coredns-1.kube-system:53 productpage-v1-9d4f.default:5000                                             TCP
sleep-5c8b.default Outbound  sleep-5c8b.default:40000 productpage-v1-9d4f.default:15008 productpage.default.svc.cluster.local:9080 HBONE
";
    assert_eq!(all, expected);
    let raw = Connections {
        raw: true,
        direction: Some(Direction::Outbound),
        ..Default::default()
    };
    let raw = tables::connections(&recorded(), &raw).render();
    assert!(
        raw.contains("10.244.1.7:40000 10.244.2.9:15008 10.96.1.1:9080 HBONE"),
        "{raw}"
    );
    assert_eq!(raw.lines().count(), 2);
    let one = Connections {
        namespace: Some("default"),
        name: Some("sleep-5c8b"),
        ..Default::default()
    };
    assert_eq!(recorded()[0].connections(&one).len(), 1);
}

#[test]
fn what_is_no_dump_is_refused() {
    for bytes in [&b"{}"[..], b"[]", b"not json", b""] {
        assert!(Dump::parse(bytes, None).is_err());
    }
}

/// Older ztunnels key workloads and services by address.
#[test]
fn sections_may_be_tables() {
    let dump =
        br#"{"workloads":{"/10.0.0.1":{"name":"a","namespace":"b","workloadIps":["10.0.0.1"]}}}"#;
    let dump = Dump::parse(dump, None).unwrap();
    assert_eq!(dump.workloads(&Workloads::default()).len(), 1);
}
