//! Authorization, tokens and rate limits.

use tulle_identity::jwt;
use tulle_model::{AppProtocol, Service};
use tulle_policy::Target;
use tulle_policy::http::{Action, Clause, HttpPolicy, Match, Rule, Test, TextAttribute, TextMatch};
use tulle_policy::jwt::{Authentication, ClaimHeader, JwtRule, Keys};
use tulle_policy::observe::{Observe, Telemetry, Tracing};
use tulle_policy::settings::{ExtAuthzHttp, OpenTelemetry, Provider, ProxySettings, Upstream};
use tulle_proto::{
    AUTHENTICATION_TYPE, HTTP_POLICY_TYPE, PROXY_SETTINGS_TYPE, RATE_LIMIT_TYPE, TELEMETRY_TYPE,
};
use tulle_route::resource::{KeyPart, Limit, LimitScope, ObjectKey, Rate, RateLimit};

use crate::application;
use crate::client::{Answer, ask, get};
use crate::mesh::{Mesh, Pod, service, workload};

struct World {
    mesh: Mesh,
    web: Service,
    alice: Pod,
    bob: Pod,
}

const VIP: &str = "10.96.0.1:80";

fn world() -> World {
    let mut mesh = Mesh::waypoint();
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    mesh.application("web", &[&web]);
    let (alice, bob) = (mesh.pod("alice"), mesh.pod("bob"));
    mesh.control.workload(&workload(&alice));
    mesh.control.workload(&workload(&bob));
    mesh.knows("Pod/shop/bob");
    World {
        mesh,
        web,
        alice,
        bob,
    }
}

impl World {
    fn ask(&self, who: &Pod, request: http::request::Builder) -> Answer {
        let request = request.body(String::new()).unwrap();
        ask(&self.mesh, who, VIP, request).unwrap()
    }

    fn policy(&self, policy: &HttpPolicy) {
        self.mesh
            .control
            .put(HTTP_POLICY_TYPE, &policy.name, policy);
        self.mesh.knows(&policy.name);
    }
}

fn text(attribute: TextAttribute, value: &str) -> Test {
    Test::Text {
        attribute,
        values: vec![TextMatch::parse(value)],
        not: Vec::new(),
    }
}

fn policy(name: &str, target: Target, action: Action, all: Vec<Test>) -> HttpPolicy {
    HttpPolicy {
        name: name.into(),
        targets: vec![target],
        action,
        dry_run: false,
        rules: vec![Rule {
            clauses: vec![Clause {
                any: vec![Match { all }],
            }],
        }],
        unenforceable: None,
    }
}

#[test]
fn only_who_is_allowed_and_only_what_is_allowed() {
    let world = world();
    assert_eq!(world.ask(&world.bob, get("/")).status, 200);
    let get_only = policy(
        "shop/get-only",
        Target::Service(world.web.key()),
        Action::Allow,
        vec![
            text(TextAttribute::Principal, "cluster.local/ns/shop/sa/alice"),
            text(TextAttribute::Method, "GET"),
        ],
    );
    world.policy(&get_only);
    assert_eq!(world.ask(&world.alice, get("/")).status, 200);
    let refused = world.ask(&world.bob, get("/bob"));
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (403, "RBAC: access denied")
    );
    assert_eq!(
        world.ask(&world.alice, get("/post").method("POST")).status,
        403
    );
    world
        .mesh
        .logged(&["\"GET /bob HTTP/1.1\" 403 - rbac_access_denied_matched_policy[none]"]);

    let deny = policy(
        "shop/no-admin",
        Target::Gateway("shop/waypoint".into()),
        Action::Deny,
        vec![Test::Path {
            values: vec![tulle_policy::http::PathMatch::Text(TextMatch::Prefix(
                "/admin".into(),
            ))],
            not: Vec::new(),
        }],
    );
    world.policy(&deny);
    // By any spelling.
    assert_eq!(world.ask(&world.alice, get("/x/../admin")).status, 403);
    assert_eq!(world.ask(&world.alice, get("/%61dmin")).status, 403);
    world
        .mesh
        .logged(&["403 - rbac_access_denied_matched_policy[ns[shop]-policy[no-admin]-rule[0]]"]);
    let (_, metrics) = world.mesh.page(15020, "/metrics").unwrap();
    let refused = metrics.lines().any(|l| {
        l.starts_with("istio_requests_total")
            && l.contains("source_workload=\"bob\"")
            && l.contains("response_code=\"403\"")
    });
    assert!(refused, "{metrics}");
}

#[test]
fn what_cannot_be_understood_refuses() {
    let world = world();
    let body = serde_json::json!({
        "name": "shop/newer",
        "targets": [{ "service": "shop/web.shop.svc.cluster.local" }],
        "action": "allow",
        "somethingNew": true,
    });
    world
        .mesh
        .control
        .put(HTTP_POLICY_TYPE, "shop/newer", &body);
    world.mesh.eventually("a refusal", || {
        (world.ask(&world.alice, get("/")).status == 403).then_some(())
    });
    world.mesh.control.remove(HTTP_POLICY_TYPE, "shop/newer");
    world.mesh.eventually("an answer", || {
        (world.ask(&world.alice, get("/")).status == 200).then_some(())
    });
}

const SECRET: &[u8] = b"a secret of the issuer";

fn token(claims: &serde_json::Value, secret: &[u8]) -> String {
    use aws_lc_rs::hmac;
    let header = jwt::encode(b"{\"alg\":\"HS256\"}");
    let signed = format!("{header}.{}", jwt::encode(claims.to_string().as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", jwt::encode(signature.as_ref()))
}

#[test]
fn tokens_are_verified_and_their_claims_decide() {
    let world = world();
    let jwks = format!(
        "{{\"keys\":[{{\"kty\":\"oct\",\"k\":{:?}}}]}}",
        jwt::encode(SECRET)
    );
    let authentication = Authentication {
        name: "shop/tokens".into(),
        targets: vec![Target::Service(world.web.key())],
        rules: vec![JwtRule {
            issuer: "me".into(),
            audiences: Vec::new(),
            keys: Keys::Inline(jwks.into()),
            from_headers: Vec::new(),
            from_params: Vec::new(),
            from_cookies: Vec::new(),
            forward: false,
            payload_header: None,
            claim_headers: vec![ClaimHeader {
                header: "x-group".into(),
                claim: vec!["group".into()],
            }],
            space_delimited: Vec::new(),
            timeout: std::time::Duration::from_secs(5),
        }],
        unenforceable: None,
    };
    world
        .mesh
        .control
        .put(AUTHENTICATION_TYPE, "shop/tokens", &authentication);
    let with = |token: &str| get("/").header("authorization", format!("Bearer {token}"));
    let claims = serde_json::json!({ "iss": "me", "sub": "alice", "group": "blue", "exp": 4_000_000_000u64 });
    let good = token(&claims, SECRET);
    world.mesh.eventually("claims in a header", || {
        let answer = world.ask(&world.alice, with(&good).header("x-group", "forged"));
        (answer.saw("x-group") == Some("blue") && answer.saw("authorization").is_none())
            .then_some(())
    });
    let forged = world.ask(&world.alice, with(&token(&claims, b"another secret")));
    assert_eq!(
        (forged.status, forged.body.as_str()),
        (401, "Jwt verification fails")
    );
    let old = serde_json::json!({ "iss": "me", "sub": "alice", "exp": 1 });
    assert_eq!(
        world.ask(&world.alice, with(&token(&old, SECRET))).status,
        401
    );
    // Without a token nothing is wrong, until a policy demands one.
    assert_eq!(world.ask(&world.alice, get("/")).status, 200);
    let demand = policy(
        "shop/demand",
        Target::Service(world.web.key()),
        Action::Allow,
        vec![text(TextAttribute::RequestPrincipal, "me/alice")],
    );
    world.policy(&demand);
    assert_eq!(world.ask(&world.alice, get("/")).status, 403);
    assert_eq!(world.ask(&world.alice, with(&good)).status, 200);
}

#[test]
fn more_than_the_limit_is_answered_with_429() {
    let world = world();
    let limit = RateLimit {
        object: ObjectKey::new("RateLimitPolicy", "shop", "three"),
        targets: vec![Target::Service(world.web.key())],
        routes: Vec::new(),
        matches: Vec::new(),
        limits: vec![Limit {
            name: None,
            key: vec![KeyPart::Identity],
            rate: Rate {
                requests: 3,
                per: std::time::Duration::from_secs(3600),
            },
            burst: None,
            scope: LimitScope::Local,
            keys: None,
        }],
        status: None,
        dry_run: false,
    };
    let name = limit.object.to_string();
    world.mesh.control.put(RATE_LIMIT_TYPE, &name, &limit);
    world.mesh.eventually("a refusal", || {
        let answer = world.ask(&world.alice, get("/limited"));
        let after = answer.header("retry-after").map(str::to_owned);
        (answer.status == 429 && after.is_some()).then_some(())
    });
    // Somebody else has an allowance of his own.
    assert_eq!(world.ask(&world.bob, get("/")).status, 200);
    world
        .mesh
        .logged(&["\"GET /limited HTTP/1.1\" 429 RL rate_limited{RateLimitPolicy/shop/three}"]);
}

fn provider_at(service: &Service, port: u16) -> Upstream {
    Upstream {
        service: Some(service.key()),
        host: service.hostname.clone(),
        port,
        timeout: std::time::Duration::from_secs(10),
    }
}

impl World {
    /// Another service, in clear, at port 80.
    fn service_in_clear(&mut self, name: &str, vip: &str, protocol: AppProtocol) -> (Service, Pod) {
        let known = service(name, vip, &[(80, 8080, protocol)]);
        self.mesh.control.service(&known);
        let pod = self.mesh.pod(name);
        let mut at = workload(&pod);
        at.tunnel = tulle_model::Tunnel::None;
        at.services = [(known.key(), known.ports.clone())].into();
        self.mesh.control.workload(&at);
        self.mesh.knows(&format!("Pod/shop/{name}"));
        (known, pod)
    }

    fn provider(&self, name: &str, provider: Provider) {
        let settings = ProxySettings {
            providers: [(name.into(), provider)].into(),
            ..ProxySettings::default()
        };
        self.mesh
            .control
            .put(PROXY_SETTINGS_TYPE, "mesh", &settings);
        self.mesh.knows(&format!("\"{name}\""));
    }
}

#[test]
fn somebody_outside_decides() {
    let mut world = world();
    let (guard, pod) = world.service_in_clear("guard", "10.96.0.7", AppProtocol::Http11);
    application::outside(&pod.netns, 8080, "guard");
    world.provider(
        "guard-provider",
        Provider::ExtAuthzHttp(ExtAuthzHttp {
            upstream: provider_at(&guard, 80),
            path_prefix: "/check".into(),
            fail_open: false,
            status_on_error: 403,
            include_headers: vec!["x-fail".into()],
            add_headers: Default::default(),
            body: None,
            to_upstream: Vec::new(),
            to_client_on_deny: Vec::new(),
            to_client_on_allow: Vec::new(),
        }),
    );
    let action = Action::Custom {
        provider: "guard-provider".into(),
    };
    let prefix = tulle_policy::http::PathMatch::Text(TextMatch::Prefix("/guarded".into()));
    let path = Test::Path {
        values: vec![prefix],
        not: Vec::new(),
    };
    let target = Target::Service(world.web.key());
    world.policy(&policy("shop/guarded", target, action, vec![path]));
    assert_eq!(world.ask(&world.alice, get("/guarded")).status, 200);
    let denied = world.ask(&world.alice, get("/guarded").header("x-fail", "401"));
    assert_eq!(
        (denied.status, denied.body.as_str()),
        (401, "failed on purpose")
    );
    world
        .mesh
        .logged(&["\"GET /guarded HTTP/1.1\" 401 UAEX ext_authz_denied"]);
    // Whose answer is no decision refuses.
    let silent = world.ask(&world.alice, get("/guarded").header("x-fail", "500"));
    assert_eq!(silent.status, 403);
    // Nobody is asked about the rest.
    let free = world.ask(&world.alice, get("/free").header("x-fail", "404"));
    assert_eq!(free.body, "failed on purpose");
}

#[test]
fn spans_reach_the_collector_and_the_trace_goes_on() {
    let mut world = world();
    let (otel, pod) = world.service_in_clear("otel", "10.96.0.8", AppProtocol::Grpc);
    let taken = application::collector(&pod.netns, 8080);
    world.provider(
        "otel-provider",
        Provider::OpenTelemetry(OpenTelemetry {
            upstream: provider_at(&otel, 80),
            longest_tag: None,
            http: None,
            headers: Default::default(),
            log_text: None,
            log_labels: Default::default(),
        }),
    );
    let telemetry = Telemetry {
        gateway: "shop/waypoint".into(),
        all: Observe {
            tracing: Some(Tracing {
                providers: vec!["otel-provider".into()],
                sampling: 100.0,
                report_disabled: false,
                propagation_disabled: false,
                tags: Default::default(),
                istio_tags: true,
            }),
            ..Observe::default()
        },
        ..Telemetry::default()
    };
    world
        .mesh
        .control
        .put(TELEMETRY_TYPE, "shop/waypoint", &telemetry);
    world.mesh.knows("\"sampling\": 100.0");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let answer = world.ask(&world.alice, get("/traced").header("traceparent", &parent));
    let passed = answer.saw("traceparent").unwrap();
    assert!(
        passed.starts_with(&format!("00-{trace}-")) && passed != parent,
        "{passed}"
    );
    let span = u64::from_str_radix(&passed[36..52], 16).unwrap();
    let wanted: Vec<Vec<u8>> = vec![
        u128::from_str_radix(trace, 16)
            .unwrap()
            .to_be_bytes()
            .to_vec(),
        span.to_be_bytes().to_vec(),
        0x00f0_67aa_0ba9_02b7u64.to_be_bytes().to_vec(),
        b"web.shop.svc.cluster.local:80/*".to_vec(),
        b"istio.source_workload".to_vec(),
        b"service.name".to_vec(),
    ];
    world.mesh.eventually("the span", || {
        let taken = taken.lock().unwrap();
        let holds = |body: &Vec<u8>| {
            wanted
                .iter()
                .all(|part| body.windows(part.len()).any(|w| w == &part[..]))
        };
        taken.iter().any(holds).then_some(())
    });
}
