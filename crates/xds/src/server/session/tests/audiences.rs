//! Who sees what, and what they are told when that changes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tulle_proto::{CERTIFICATE_TYPE, HTTP_ROUTE_TYPE};

use super::super::super::audience::Audience;
use super::*;

fn of(gateway: &str) -> Session {
    Session::new(1).of_gateway(Some(Arc::from(gateway)))
}

fn put_for(name: &str, body: &str, gateways: &[&str]) -> Change {
    put(name, body).for_audience(Audience::gateways(gateways.iter().copied()))
}

/// Names in, names out, until there is nothing more to say.
fn drain(session: &mut Session, publisher: &Publisher) -> (Vec<String>, Vec<String>) {
    let (mut here, mut gone) = (Vec::new(), Vec::new());
    while let Some(answer) = next(session, publisher) {
        here.extend(contents(&answer).into_keys());
        gone.extend(answer.removed.iter().map(ToString::to_string));
    }
    (here, gone)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_wildcard_gives_only_what_the_caller_may_see() {
    let publisher = Publisher::new();
    publisher.publish(
        CERTIFICATE_TYPE,
        vec![
            put_for("ns/mine", "key", &["ns/a"]),
            put_for("ns/theirs", "key", &["ns/b"]),
            put_for("ns/both", "key", &["ns/a", "ns/b"]),
        ],
    );
    let mut mine = of("ns/a");
    mine.request(subscribe(CERTIFICATE_TYPE, &[]), &publisher)
        .unwrap();
    let seen = drain(&mut mine, &publisher);
    assert_eq!(seen, (names(&["ns/both", "ns/mine"]), vec![]));
    // A node proxy, or anybody else with a token of the mesh, sees no key at all.
    let mut nobody = Session::new(2);
    nobody
        .request(subscribe(CERTIFICATE_TYPE, &[]), &publisher)
        .unwrap();
    assert_eq!(drain(&mut nobody, &publisher), (vec![], vec![]));
}

#[test]
fn what_is_not_for_the_caller_does_not_exist_even_by_name() {
    let publisher = Publisher::new();
    let theirs = put_for("ns/theirs", "key", &["ns/b"]).with_keys(vec!["some key".to_owned()]);
    publisher.publish(CERTIFICATE_TYPE, vec![theirs]);
    let mut session = of("ns/a");
    let ask = subscribe(CERTIFICATE_TYPE, &["ns/theirs", "some key", "ns/none"]);
    session.request(ask, &publisher).unwrap();
    let answer = next(&mut session, &publisher).unwrap();
    assert!(answer.resources.is_empty());
    assert_eq!(answer.removed.len(), 3, "all three are unknown alike");
    // Not even its end is told.
    publisher.publish(CERTIFICATE_TYPE, vec![Change::remove("ns/theirs")]);
    assert!(next(&mut session, &publisher).is_none());
}

#[test]
fn a_new_audience_adds_for_some_and_removes_for_others() {
    let publisher = Publisher::new();
    publisher.publish(HTTP_ROUTE_TYPE, vec![put_for("r", "1", &["ns/a", "ns/b"])]);
    let (mut a, mut b, mut c) = (of("ns/a"), of("ns/b"), of("ns/c"));
    for session in [&mut a, &mut b, &mut c] {
        session
            .request(subscribe(HTTP_ROUTE_TYPE, &[]), &publisher)
            .unwrap();
    }
    assert_eq!(drain(&mut a, &publisher).0, names(&["r"]));
    assert_eq!(drain(&mut b, &publisher).0, names(&["r"]));
    assert!(drain(&mut c, &publisher).0.is_empty());
    // The body is the same: only who may have it changed.
    let changed = publisher.publish(HTTP_ROUTE_TYPE, vec![put_for("r", "1", &["ns/b", "ns/c"])]);
    assert_eq!(changed, 1);
    assert_eq!(drain(&mut a, &publisher), (vec![], names(&["r"])));
    assert!(drain(&mut b, &publisher).1.is_empty());
    assert_eq!(drain(&mut c, &publisher), (names(&["r"]), vec![]));
    // Removed and made again for others, faster than anybody looked.
    publisher.publish(HTTP_ROUTE_TYPE, vec![Change::remove("r")]);
    publisher.publish(HTTP_ROUTE_TYPE, vec![put_for("r", "1", &["ns/a"])]);
    assert_eq!(drain(&mut a, &publisher), (names(&["r"]), vec![]));
    assert_eq!(drain(&mut b, &publisher), (vec![], names(&["r"])));
    assert_eq!(drain(&mut c, &publisher), (vec![], names(&["r"])));
}

#[test]
fn a_reconnect_takes_away_what_is_no_longer_for_the_caller() {
    let publisher = Publisher::new();
    publisher.publish(HTTP_ROUTE_TYPE, vec![put_for("r", "1", &["ns/b"])]);
    let mut again = subscribe(HTTP_ROUTE_TYPE, &[]);
    again.initial_resource_versions = [("r".to_owned(), "whatever".to_owned())].into();
    let mut a = of("ns/a");
    a.request(again, &publisher).unwrap();
    assert_eq!(drain(&mut a, &publisher), (vec![], names(&["r"])));
}

#[test]
fn a_resource_for_l7_proxies_without_an_audience_is_for_nobody() {
    let publisher = Publisher::new();
    publisher.publish(CERTIFICATE_TYPE, vec![put("ns/lost", "key")]);
    publisher.publish(ADDRESS_TYPE, vec![put("pod", "")]);
    let mut a = of("ns/a");
    for type_url in [CERTIFICATE_TYPE, ADDRESS_TYPE] {
        a.request(subscribe(type_url, &[]), &publisher).unwrap();
    }
    assert_eq!(drain(&mut a, &publisher).0, names(&["pod"]));
}

#[test]
fn what_is_not_for_a_client_counts_as_taken() {
    let publisher = Publisher::new();
    let mut a = of("ns/a");
    a.request(subscribe(HTTP_ROUTE_TYPE, &[]), &publisher)
        .unwrap();
    drain(&mut a, &publisher);
    publisher.publish(HTTP_ROUTE_TYPE, vec![put_for("r", "1", &["ns/b"])]);
    assert!(next(&mut a, &publisher).is_none());
    let settled: Vec<_> = a.settled().collect();
    assert_eq!(settled, [(HTTP_ROUTE_TYPE, publisher.sequence())]);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, BTreeSet<u8>),
    Remove(u8),
    Look(u8),
    Reconnect(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let audience = prop::collection::btree_set(0..3u8, 0..3);
    prop_oneof![
        4 => (0..4u8, 0..3u8, audience).prop_map(|(name, body, to)| Step::Put(name, body, to)),
        1 => (0..4u8).prop_map(Step::Remove),
        2 => (0..3u8).prop_map(Step::Look),
        1 => (0..3u8).prop_map(Step::Reconnect),
    ]
}

/// A proxy: what it was told and has not been told to drop.
struct Proxy {
    session: Session,
    has: BTreeMap<String, (String, String)>,
}

impl Proxy {
    fn look(&mut self, publisher: &Publisher) {
        while let Some(answer) = next(&mut self.session, publisher) {
            self.has.extend(contents(&answer));
            for name in &answer.removed {
                self.has.remove(&**name);
            }
        }
    }

    fn reconnect(&mut self, gateway: &str, publisher: &Publisher) {
        let mut first = subscribe(HTTP_ROUTE_TYPE, &[]);
        let versions = self.has.iter().map(|(n, (v, _))| (n.clone(), v.clone()));
        first.initial_resource_versions = versions.collect();
        self.session = of(gateway);
        self.session.request(first, publisher).unwrap();
    }
}

proptest! {
    /// Whatever happens in whatever order: in the end everybody has exactly what is for it.
    #[test]
    fn everybody_has_what_is_for_it(steps in prop::collection::vec(step(), 0..60)) {
        let publisher = Publisher::new();
        let gateway = |n: u8| format!("ns/{n}");
        let mut proxies: Vec<Proxy> = (0..3)
            .map(|_| Proxy { session: of("-"), has: BTreeMap::new() })
            .collect();
        for (n, proxy) in (0u8..).zip(&mut proxies) {
            proxy.reconnect(&gateway(n), &publisher);
        }
        let mut truth: BTreeMap<String, (String, BTreeSet<u8>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put(name, body, to) => {
                    let (name, body) = (name.to_string(), body.to_string());
                    let audience = Audience::gateways(to.iter().map(|n| gateway(*n)));
                    publisher.publish(
                        HTTP_ROUTE_TYPE,
                        vec![put(&name, &body).for_audience(audience)],
                    );
                    truth.insert(name, (body, to));
                }
                Step::Remove(name) => {
                    let name = name.to_string();
                    publisher.publish(HTTP_ROUTE_TYPE, vec![Change::remove(&*name)]);
                    truth.remove(&name);
                }
                Step::Look(n) => proxies[usize::from(n)].look(&publisher),
                Step::Reconnect(n) => proxies[usize::from(n)].reconnect(&gateway(n), &publisher),
            }
        }
        for (n, proxy) in (0u8..).zip(&mut proxies) {
            proxy.look(&publisher);
            let expected: BTreeMap<&str, &str> = truth
                .iter()
                .filter(|(_, (_, to))| to.contains(&n))
                .map(|(name, (body, _))| (&**name, &**body))
                .collect();
            let has: BTreeMap<&str, &str> =
                proxy.has.iter().map(|(name, (_, body))| (&**name, &**body)).collect();
            prop_assert_eq!(has, expected);
        }
    }
}
