use super::*;

const TYPE: &str = tulle_proto::ADDRESS_TYPE;

fn put(name: &str, body: &str) -> Change {
    Change::put(name, body.as_bytes().to_vec())
}

fn names(publisher: &Publisher, since: u64) -> Vec<String> {
    let state = publisher.lock();
    let table = state.table(TYPE).unwrap();
    table
        .news(since, None)
        .map(|(_, name, _)| name.to_string())
        .collect()
}

fn removals(publisher: &Publisher, since: u64) -> Vec<String> {
    let state = publisher.lock();
    let table = state.table(TYPE).unwrap();
    table
        .removals(since, None)
        .map(|removal| removal.name.to_string())
        .collect()
}

#[test]
fn what_is_the_same_is_no_change_and_wakes_nobody() {
    let publisher = Publisher::new();
    let mut watch = publisher.watch();
    assert_eq!(
        publisher.publish(TYPE, vec![put("a", "1"), put("b", "1")]),
        2
    );
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    assert_eq!(
        publisher.publish(TYPE, vec![put("a", "1"), Change::remove("c")]),
        0
    );
    assert!(!watch.has_changed().unwrap());
    assert_eq!(
        publisher.publish(TYPE, vec![put("a", "2"), put("b", "1")]),
        1
    );
    assert!(watch.has_changed().unwrap());
    assert_eq!(names(&publisher, 2), ["a"]);
}

#[test]
fn a_name_is_listed_once_under_its_latest_change() {
    let publisher = Publisher::new();
    for body in ["1", "2", "3"] {
        publisher.publish(TYPE, vec![put("a", body), put("b", body)]);
    }
    assert_eq!(names(&publisher, 0), ["a", "b"]);
    publisher.publish(TYPE, vec![Change::remove("a")]);
    assert_eq!(names(&publisher, 0), ["b"]);
    assert_eq!(removals(&publisher, 0), ["a"]);
    publisher.publish(TYPE, vec![put("a", "4")]);
    assert_eq!(names(&publisher, 0), ["b", "a"]);
    assert!(
        removals(&publisher, 0).is_empty(),
        "what is back is not gone"
    );
}

#[test]
fn versions_are_content_hashes_that_another_replica_computes_too() {
    let version = |order: [&str; 2]| {
        let publisher = Publisher::new();
        for name in order {
            publisher.publish(TYPE, vec![put(name, &format!("body of {name}"))]);
        }
        let state = publisher.lock();
        state.table(TYPE).unwrap().get("a", None).unwrap().version
    };
    assert_eq!(version(["a", "b"]), version(["b", "a"]));
}

#[test]
fn replace_removes_what_is_not_listed() {
    let publisher = Publisher::new();
    publisher.publish(TYPE, vec![put("a", "1"), put("b", "1"), put("c", "1")]);
    let before = publisher.sequence();
    assert_eq!(
        publisher.replace(TYPE, vec![put("b", "1"), put("c", "2"), put("d", "1")]),
        3
    );
    assert_eq!(names(&publisher, before), ["c", "d"]);
    assert_eq!(removals(&publisher, before), ["a"]);
    let sizes = publisher.published();
    assert_eq!((sizes[0].resources, sizes[0].removals), (3, 1));
}

#[test]
fn remembered_removals_are_bounded() {
    let publisher = Publisher::new();
    let many = MAX_REMOVALS + 10;
    let name = |n: usize| format!("resource {n}");
    publisher.publish(TYPE, (0..many).map(|n| put(&name(n), "1")).collect());
    publisher.publish(TYPE, (0..many).map(|n| Change::remove(name(n))).collect());
    assert_eq!(publisher.published()[0].removals, MAX_REMOVALS);
    assert_eq!(publisher.published()[0].resources, 0);
    let state = publisher.lock();
    let table = state.table(TYPE).unwrap();
    assert_eq!(table.horizon, many as u64 + 10);
    assert!(table.index.is_empty() && table.entries.is_empty());
}

#[test]
fn names_and_keys_resolve() {
    let publisher = Publisher::new();
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    publisher.publish(
        TYPE,
        vec![
            put("default/web", "service").with_keys(keys(&["/10.96.0.1"])),
            put("pod/1", "workload").with_keys(keys(&["/10.0.0.1", "default/web", "/10.96.0.1"])),
            put("pod/2", "workload").with_keys(keys(&["/10.0.0.2", "default/web", "/10.96.0.1"])),
        ],
    );
    let resolve = |name: &str| {
        let state = publisher.lock();
        let table = state.table(TYPE).unwrap();
        table
            .resolve(name)
            .map(|name| name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(resolve("/10.0.0.2"), ["pod/2"]);
    assert_eq!(resolve("/10.96.0.1"), ["default/web", "pod/1", "pod/2"]);
    assert_eq!(resolve("default/web"), ["default/web", "pod/1", "pod/2"]);
    assert!(resolve("/10.0.0.9").is_empty());
    publisher.publish(
        TYPE,
        vec![put("pod/1", "moved").with_keys(keys(&["/10.0.0.9"]))],
    );
    assert_eq!(resolve("/10.0.0.9"), ["pod/1"]);
    assert!(resolve("/10.0.0.1").is_empty());
}
