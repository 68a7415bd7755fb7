//! Authorization, tokens and rate limits.

use tulle_identity::jwt;
use tulle_model::{AppProtocol, Service};
use tulle_policy::Target;
use tulle_policy::http::{Action, Clause, HttpPolicy, Match, Rule, Test, TextAttribute, TextMatch};
use tulle_policy::jwt::{Authentication, ClaimHeader, JwtRule, Keys};
use tulle_proto::{AUTHENTICATION_TYPE, HTTP_POLICY_TYPE, RATE_LIMIT_TYPE};
use tulle_route::resource::{KeyPart, Limit, LimitScope, ObjectKey, Rate, RateLimit};

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
        object: ObjectKey {
            kind: "RateLimitPolicy".into(),
            namespace: "shop".into(),
            name: "three".into(),
        },
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
