use tulle_policy::{Action, Match, Rule, Scope};

use super::*;
use crate::fixtures::{endpoint, service, workload};

fn written(snapshot: &Snapshot) -> Vec<u8> {
    let mut blob = Vec::new();
    write_snapshot(snapshot, &mut blob).unwrap();
    blob
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let mut snapshot = Snapshot::default();
    let web = service("web", "10.96.0.1");
    let a = endpoint(workload("a", "10.0.0.1"), &web);
    let mut policy = Policy::new("default", "p", Scope::Namespace, Action::Deny);
    let matches = vec![Match {
        destination_ports: vec![80],
        ..Match::default()
    }];
    policy.rules = vec![Rule {
        clauses: vec![tulle_policy::Clause { matches }],
    }];
    snapshot.mesh.insert_workload(a.clone());
    snapshot.mesh.insert_service(web.clone());
    snapshot.policies.insert(policy.clone());
    let contents = read_contents(&written(&snapshot));
    assert_eq!(contents.workloads, [a]);
    assert_eq!(contents.services, [web]);
    assert_eq!(contents.policies, [policy]);
}

#[test]
fn a_damaged_blob_gives_what_is_whole() {
    let mut snapshot = Snapshot::default();
    snapshot.mesh.insert_workload(workload("a", "10.0.0.1"));
    let blob = written(&snapshot);
    for length in 0..blob.len() {
        assert!(read_contents(&blob[..length]).workloads.is_empty());
    }
    let mut rubbish = blob.clone();
    rubbish.extend([POLICY, 0, 0, 0, 1, 0xff, ADDRESS, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(read_contents(&rubbish).workloads.len(), 1);
    assert!(read_credentials(b"\x03\x00\x00\x00\x02xx").is_empty());
}
