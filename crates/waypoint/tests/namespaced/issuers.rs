//! Keys of issuers: over https, found by OpenID Connect Discovery, exchanged, withdrawn, late and broken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tulle_http::body::Body;
use tulle_http::server::{Request, serve};
use tulle_identity::gateway::{ClientCertificates, ServerTls, Settings, Version};
use tulle_identity::jwt;
use tulle_model::{AppProtocol, Tunnel};
use tulle_policy::Target;
use tulle_policy::jwt::{Authentication, JwtRule, Keys};
use tulle_proto::AUTHENTICATION_TYPE;

use crate::application;
use crate::client::{ask, get};
use crate::mesh::{Mesh, Pod, service, workload};

const VIP: &str = "10.96.0.1:80";
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Of every fetch.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A waypoint that believes one authority, an application behind it, and an issuer outside of the mesh.
struct World {
    mesh: Mesh,
    client: Pod,
    issuer: Issuer,
    authority: Authority,
}

/// An https server.
struct Issuer {
    url: String,
    serving: Arc<Mutex<Serving>>,
}

#[derive(Default)]
struct Serving {
    /// By path; what is not there is not found.
    answers: HashMap<String, Reply>,
    asked: Vec<String>,
}

#[derive(Clone)]
enum Reply {
    Text(String),
    Status(u16),
    Redirect(String),
    Never,
}

/// A certificate authority.
struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self(rcgen::Issuer::new(params, key), pem)
    }

    fn server(&self, name: &str) -> ServerTls {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        ServerTls::new(&Settings {
            certificates: vec![(&chain, &key.serialize_pem())],
            clients: ClientCertificates::None,
            minimum: Version::V1_2,
            maximum: Version::V1_3,
            alpn: &[b"http/1.1"],
        })
        .unwrap()
    }
}

impl Issuer {
    /// On port 8443 of a pod, with a certificate for a name or its address.
    fn start(pod: &Pod, authority: &Authority, name: &str) -> Self {
        let tls = authority.server(name);
        let serving: Arc<Mutex<Serving>> = Arc::default();
        let shared = serving.clone();
        let listener = application::listen(&pod.netns, 8443);
        application::run(move || async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, serving) = (tls.clone(), shared.clone());
                tokio::task::spawn_local(async move {
                    let Ok((stream, _)) = tls.accept(tcp).await else {
                        return;
                    };
                    let handler = async move |request: Request| answer(&serving, &request).await;
                    let settings = tulle_http::server::Settings::default();
                    let _ = serve(stream, &settings, std::future::pending(), handler).await;
                });
            }
        });
        Self {
            url: format!("https://{name}:8443"),
            serving,
        }
    }

    fn says(&self, path: &str, reply: Reply) {
        let mut serving = self.serving.lock().unwrap();
        serving.answers.insert(path.to_owned(), reply);
    }

    fn has(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        self.says("/keys", Reply::Text(json!({ "keys": keys }).to_string()));
    }

    /// How often a path was asked for.
    fn asked(&self, path: &str) -> usize {
        let serving = self.serving.lock().unwrap();
        serving.asked.iter().filter(|asked| *asked == path).count()
    }
}

async fn answer(serving: &Mutex<Serving>, request: &Request) -> http::Response<Body> {
    let path = request.head.uri.path().to_owned();
    let reply = {
        let mut serving = serving.lock().unwrap();
        serving.asked.push(path.clone());
        serving.answers.get(&path).cloned()
    };
    let response = http::Response::builder();
    let response = match reply {
        Some(Reply::Text(text)) => return http::Response::new(Body::full(text)),
        Some(Reply::Never) => std::future::pending().await,
        Some(Reply::Redirect(to)) => response.status(302).header("location", to),
        Some(Reply::Status(status)) => response.status(status),
        None => response.status(404),
    };
    response.body(Body::empty()).unwrap()
}

/// What an issuer signs with.
struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref()).unwrap();
        Self { id, pair }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (jwt::encode(&point[1..33]), jwt::encode(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y })
    }

    fn token(&self, issuer: &str) -> String {
        let header = json!({ "alg": "ES256", "kid": self.id }).to_string();
        let claims = json!({ "iss": issuer, "sub": "alice", "exp": 4_000_000_000u64 }).to_string();
        let signed = [header, claims].map(|part| jwt::encode(part.as_bytes()));
        let signed = signed.join(".");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", jwt::encode(signature.unwrap().as_ref()))
    }
}

/// Keys are fetched again after `refresh`.
fn world(refresh: &str) -> World {
    let authority = Authority::new();
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), &authority.1).unwrap();
    let (_, roots) = roots.keep().unwrap();
    let mut mesh = Mesh::waypoint_with(&[
        ("SSL_CERT_FILE", roots.to_str().unwrap()),
        ("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", refresh),
    ]);
    let web = service("web", "10.96.0.1", &[(80, 8080, AppProtocol::Http11)]);
    mesh.control.service(&web);
    mesh.application("web", &[&web]);
    let client = mesh.pod("alice");
    mesh.control.workload(&workload(&client));
    mesh.knows("Pod/shop/alice");
    let issuer = mesh.pod("issuer");
    let issuer = Issuer::start(&issuer, &authority, &issuer.ip.to_string());
    World {
        mesh,
        client,
        issuer,
        authority,
    }
}

impl World {
    /// Tokens of this issuer, with keys from there, are asked for from now on.
    fn authenticate(&self, issuer: &str, keys: Keys) {
        let authentication = Authentication {
            name: "shop/tokens".into(),
            targets: vec![Target::Service(tulle_model::ServiceKey::new(
                "shop",
                "web.shop.svc.cluster.local",
            ))],
            rules: vec![JwtRule {
                issuer: issuer.into(),
                audiences: Vec::new(),
                keys,
                from_headers: Vec::new(),
                from_params: Vec::new(),
                from_cookies: Vec::new(),
                forward: false,
                payload_header: None,
                claim_headers: Vec::new(),
                space_delimited: Vec::new(),
                timeout: TIMEOUT,
            }],
            unenforceable: None,
        };
        let control = &self.mesh.control;
        control.put(AUTHENTICATION_TYPE, "shop/tokens", &authentication);
        let nobody = json!({ "iss": issuer, "exp": 1 }).to_string();
        let expired = format!("e30.{}.e30", jwt::encode(nobody.as_bytes()));
        self.mesh.eventually("tokens are looked at", || {
            (self.status(&expired) == 401 && self.status("") != 401).then_some(())
        });
    }

    /// With a token; or without, when it is empty.
    fn status(&self, token: &str) -> u16 {
        let request = match token {
            "" => get("/"),
            token => get("/").header("authorization", format!("Bearer {token}")),
        };
        let request = request.body(String::new()).unwrap();
        ask(&self.mesh, &self.client, VIP, request).unwrap().status
    }

    fn eventually(&self, token: &str, status: u16) {
        let what = format!("status {status}");
        self.mesh
            .eventually(&what, || (self.status(token) == status).then_some(()));
    }
}

#[test]
fn discovery_says_where_the_keys_are() {
    let world = world("20m");
    let url = world.issuer.url.clone();
    let (key, forger) = (Key::new("one"), Key::new("one"));
    let to = |place: String| Reply::Text(json!({ "issuer": url, "jwks_uri": place }).to_string());
    world.issuer.has(&[&key]);

    // What came over https leads to no place that anybody could answer for.
    let careless = format!("{url}/careless");
    let at = format!("/careless{DISCOVERY}");
    let clear = format!("{url}/keys").replace("https", "http");
    world.issuer.says(&at, to(clear));
    world.authenticate(&careless, Keys::Discovery);
    assert_eq!(world.status(&key.token(&careless)), 401);
    world.mesh.logged(&["names a jwks_uri that is not https"]);

    world.issuer.says(DISCOVERY, to(format!("{url}/keys")));
    world.authenticate(&url, Keys::Discovery);
    let token = key.token(&url);
    for _ in 0..10 {
        assert_eq!(world.status(&token), 200);
    }
    assert_eq!(world.status(&forger.token(&url)), 401);
    assert_eq!(world.status(&key.token("https://somebody.else")), 401);
    let asked = (world.issuer.asked(DISCOVERY), world.issuer.asked("/keys"));
    assert_eq!(asked, (1, 1), "once, for all workers and requests");
}

#[test]
fn keys_at_the_url_of_an_issuer_are_not_the_issuers() {
    let world = world("20m");
    let url = world.issuer.url.clone();
    let (own, other) = (Key::new("one"), Key::new("one"));
    let set = |key: &Key| Reply::Text(json!({ "keys": [key.public()] }).to_string());
    world.issuer.says("/", set(&other));
    world.issuer.says("/keys", set(&own));
    let place = json!({ "jwks_uri": format!("{url}/keys") });
    world.issuer.says(DISCOVERY, Reply::Text(place.to_string()));
    world.authenticate(&url, Keys::Uri(url.as_str().into()));
    assert_eq!(world.status(&other.token(&url)), 200);
    world.authenticate(&url, Keys::Discovery);
    world.eventually(&own.token(&url), 200);
    assert_eq!(world.status(&other.token(&url)), 401);
}

#[test]
fn only_a_server_that_proves_its_name_is_believed() {
    let mut world = world("20m");
    let key = Key::new("one");
    for (name, foreign) in [("foreign", true), ("another-name", false)] {
        let impostor = world.mesh.pod(name);
        let url = format!("https://{}:8443/keys", impostor.ip);
        let impostor = match foreign {
            true => Issuer::start(&impostor, &Authority::new(), &impostor.ip.to_string()),
            false => Issuer::start(&impostor, &world.authority, "another.name"),
        };
        impostor.has(&[&key]);
        world.authenticate(name, Keys::Uri(url.as_str().into()));
        assert_eq!(world.status(&key.token(name)), 401);
        let what = "the keys of an issuer could not be fetched";
        world.mesh.logged(&[what, &url, "certificate"]);
        assert_eq!(impostor.asked("/keys"), 0);
    }
}

#[test]
fn an_issuer_in_the_mesh_is_found_by_the_name_of_its_service() {
    let mut world = world("20m");
    let pod = world.mesh.pod("keys");
    let of_issuer = service("keys", "10.96.0.2", &[(8443, 8443, AppProtocol::Tls)]);
    let mut known = workload(&pod);
    known.services = [(of_issuer.key(), of_issuer.ports.clone())].into();
    known.tunnel = Tunnel::None;
    world.mesh.control.service(&of_issuer);
    world.mesh.control.workload(&known);
    world.mesh.knows("Pod/shop/keys");
    let issuer = Issuer::start(&pod, &world.authority, "keys.shop");
    let key = Key::new("one");
    issuer.has(&[&key]);
    let keys = Keys::Uri(format!("{}/keys", issuer.url).into());
    world.authenticate("me", keys);
    assert_eq!(world.status(&key.token("me")), 200);
}

#[test]
fn a_new_key_counts_when_a_token_names_it() {
    let world = world("20m");
    let (old, new) = (Key::new("old"), Key::new("new"));
    world.issuer.has(&[&old]);
    let keys = Keys::Uri(format!("{}/keys", world.issuer.url).into());
    world.authenticate("me", keys);
    assert_eq!(world.status(&old.token("me")), 200);
    world.issuer.has(&[&old, &new]);
    // Anybody can name a key: that alone asks nobody.
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(world.status(&Key::new("invented").token("me")), 401);
    }
    if begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(world.issuer.asked("/keys"), 1);
    }
    world.eventually(&new.token("me"), 200);
    assert_eq!(world.status(&old.token("me")), 200);
    assert_eq!(world.issuer.asked("/keys"), 2);
}

#[test]
fn a_key_that_was_withdrawn_counts_no_longer() {
    let world = world("1s");
    let (old, new) = (Key::new("old"), Key::new("new"));
    world.issuer.has(&[&old]);
    let keys = Keys::Uri(format!("{}/keys", world.issuer.url).into());
    world.authenticate("me", keys);
    assert_eq!(world.status(&old.token("me")), 200);
    world.issuer.has(&[&new]);
    world.eventually(&old.token("me"), 401);
    assert_eq!(world.status(&new.token("me")), 200);
}

#[test]
fn while_an_issuer_is_broken_its_last_good_keys_count() {
    let world = world("1s");
    let key = Key::new("one");
    world.issuer.has(&[&key]);
    let keys = Keys::Uri(format!("{}/keys", world.issuer.url).into());
    world.authenticate("me", keys);
    let token = key.token("me");
    assert_eq!(world.status(&token), 200);
    let elsewhere = format!("{}/elsewhere", world.issuer.url);
    let stranger = json!({ "keys": [Key::new("stranger").public()] }).to_string();
    world.issuer.says("/elsewhere", Reply::Text(stranger));
    for broken in [
        Reply::Status(500),
        Reply::Text("no keys".to_owned()),
        Reply::Text(r#"{"keys":[]}"#.to_owned()),
        Reply::Text("x".repeat(8 << 20)),
        Reply::Redirect(elsewhere),
        Reply::Never,
    ] {
        world.issuer.says("/keys", broken);
        let before = world.issuer.asked("/keys");
        world.mesh.eventually("asked again, twice", || {
            assert_eq!(world.status(&token), 200, "what is known stays");
            (world.issuer.asked("/keys") >= before + 2).then_some(())
        });
    }
    assert_eq!(world.issuer.asked("/elsewhere"), 0);
    let new = Key::new("new");
    world.issuer.has(&[&new]);
    world.eventually(&new.token("me"), 200);
}

#[test]
fn without_keys_tokens_are_refused_in_time() {
    let world = world("20m");
    let key = Key::new("one");
    let token = key.token("me");
    world.issuer.says("/keys", Reply::Never);
    let keys = Keys::Uri(format!("{}/keys", world.issuer.url).into());
    world.authenticate("me", keys);
    let begun = Instant::now();
    assert_eq!(world.status(&token), 401);
    // Generous: the machine may be busy.
    assert!(begun.elapsed() < TIMEOUT * 20);
    world.mesh.logged(&["no answer within 1s"]);
    // Who has no token does not wait for it.
    assert_eq!(world.status(""), 200);
    world.issuer.has(&[&key]);
    world.eventually(&token, 200);
}
