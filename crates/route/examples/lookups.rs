//! Look-ups per second and memory with many routes: `cargo run --profile quick -p tulle-route --example lookups [routes]`.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use http::HeaderMap;
use tulle_model::ServiceKey;
use tulle_route::resource::{
    Backend, BackendTarget, HostPattern, HttpRoute, Match, ObjectKey, Parent, PathMatch,
    Precedence, Rule, RuleAction, Timeouts,
};
use tulle_route::{RequestHead, Scope, Table};

const DEFAULT_ROUTES: usize = 5000;
const LOOKUPS: usize = 1_000_000;

/// How the routes differ.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Hosts,
    Paths,
    /// A VirtualService each, in order.
    PathsInOrder,
}

fn main() -> std::io::Result<()> {
    let routes = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let routes: usize = routes.unwrap_or(DEFAULT_ROUTES);
    let mut out = std::io::stdout().lock();
    for shape in [Shape::Hosts, Shape::Paths, Shape::PathsInOrder] {
        let before = resident_kib();
        let start = Instant::now();
        let mut table = Table::default();
        for n in 0..routes {
            if let Err(error) = table.insert_http(route(shape, n)) {
                writeln!(out, "{error}")?;
            }
        }
        let built = start.elapsed();
        let memory = resident_kib().saturating_sub(before);
        let (hosts, paths) = requests(shape, routes);
        let headers = HeaderMap::new();
        let start = Instant::now();
        let mut hits = 0;
        for n in 0..LOOKUPS {
            // A step that is prime to every size: no two look-ups near each other.
            let at = n.wrapping_mul(7919) % routes;
            let request = RequestHead {
                method: "GET",
                scheme: "http",
                host: &hosts[at],
                path: &paths[at],
                query: None,
                headers: &headers,
                port: 80,
                source_namespace: None,
                claims: None,
            };
            hits += usize::from(black_box(table.http(SCOPE, &request)).routed().is_some());
        }
        let took = start.elapsed();
        let change = Instant::now();
        let mut next = table.clone();
        let _ = next.insert_http(route(shape, 0));
        let change = change.elapsed();
        writeln!(
            out,
            "{shape:?}: {routes} routes built in {built:?}, about {memory} KiB; {:.2} million look-ups/s ({hits} hits); one change {change:?}",
            LOOKUPS as f64 / took.as_secs_f64() / 1e6
        )?;
    }
    Ok(())
}

const SCOPE: Scope<'static> = Scope::Listener {
    gateway: "n/g",
    listener: "http",
};

fn route(shape: Shape, n: usize) -> HttpRoute {
    let (host, path, precedence) = match shape {
        Shape::Hosts => (
            format!("host-{n}.example.com"),
            "/".to_owned(),
            Precedence::Specific,
        ),
        Shape::Paths => (
            "h.example.com".into(),
            format!("/api/{n}"),
            Precedence::Specific,
        ),
        Shape::PathsInOrder => (
            "h.example.com".into(),
            format!("/api/{n}/"),
            Precedence::InOrder,
        ),
    };
    let path = match precedence {
        Precedence::Specific => PathMatch::Prefix(path.into()),
        Precedence::InOrder => PathMatch::Text(path.into()),
    };
    let target = BackendTarget::Service {
        service: ServiceKey::new("n", &format!("service-{n}.n.svc.cluster.local")),
        port: Some(80),
        subset: None,
    };
    HttpRoute {
        object: ObjectKey::new("HTTPRoute", "n", &format!("route-{n}")),
        parents: vec![Parent::Listener {
            gateway: "n/g".into(),
            listener: "http".into(),
            hostnames: vec![HostPattern(host.into())],
        }],
        created: 0,
        precedence,
        rules: vec![Rule {
            name: None,
            matches: vec![Match {
                path: Some(path),
                ..Match::default()
            }],
            filters: Vec::new(),
            action: RuleAction::Forward(vec![Backend {
                weight: 1,
                target,
                filters: Vec::new(),
            }]),
            timeouts: Timeouts::default(),
            retry: None,
        }],
    }
}

fn requests(shape: Shape, routes: usize) -> (Vec<String>, Vec<String>) {
    let of = |n: usize| match shape {
        Shape::Hosts => (format!("host-{n}.example.com"), "/some/path".to_owned()),
        Shape::Paths | Shape::PathsInOrder => {
            ("h.example.com".into(), format!("/api/{n}/items/17"))
        }
    };
    (0..routes).map(of).unzip()
}

/// Resident memory of this process; 0 where the system does not say.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or_default()
}
