//! Which tokens are looked at, and which claims are accepted.

use std::borrow::Cow;
use std::time::Duration;

use super::{
    Authentication, Authentications, Carrier, ClaimHeader, Claims, JwtRule, Keys, Location, Plan,
    Refusal, TokenError, TokenHeader,
};
use crate::{Envelope, Target};

/// Parts of a request.
#[derive(Default)]
struct Parts {
    headers: Vec<(&'static str, String)>,
    query: Option<String>,
}

impl Carrier for Parts {
    fn header(&self, name: &str) -> Vec<Cow<'_, str>> {
        self.headers
            .iter()
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| Cow::Borrowed(v.as_str()))
            .collect()
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
}

/// Instead of base64: what stands between tildes, so that tests can be read.
fn decode(text: &str) -> Option<Vec<u8>> {
    let issuer = text.strip_prefix("iss-")?;
    Some(format!(r#"{{"iss":"{issuer}","sub":"me"}}"#).into_bytes())
}

fn bearer(token: &str) -> Parts {
    Parts {
        headers: vec![("authorization", format!("Bearer {token}"))],
        query: None,
    }
}

fn rule(issuer: &str) -> JwtRule {
    JwtRule {
        issuer: issuer.into(),
        audiences: Vec::new(),
        keys: Keys::Discovery,
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        forward: false,
        payload_header: None,
        claim_headers: Vec::new(),
        space_delimited: Vec::new(),
        timeout: Duration::from_secs(5),
    }
}

fn target() -> Target {
    Target::Gateway("ns/waypoint".into())
}

fn table(rules: Vec<JwtRule>) -> Authentications {
    let mut table = Authentications::default();
    table.insert(Authentication {
        name: "ns/jwt".into(),
        targets: vec![target()],
        rules,
        unenforceable: None,
    });
    table
}

fn plan(table: &Authentications, request: &Parts) -> Plan {
    table.plan(&[target()], request, decode)
}

#[test]
fn without_token_or_rules_requests_pass() {
    assert_eq!(
        plan(&table(vec![rule("one")]), &Parts::default()),
        Plan::Pass
    );
    assert_eq!(
        plan(&Authentications::default(), &bearer("garbage")),
        Plan::Pass
    );
    let other = [Target::Gateway("ns/other".into())];
    assert_eq!(
        table(vec![rule("one")]).plan(&other, &bearer("a.iss-x.c"), decode),
        Plan::Pass
    );
}

#[test]
fn the_issuer_leads_to_its_rule() {
    let table = table(vec![rule("one"), rule("two")]);
    let Plan::Verify(candidates) = plan(&table, &bearer("h.iss-two.s")) else {
        panic!("not verified")
    };
    let [candidate] = &candidates[..] else {
        panic!("{candidates:?}")
    };
    assert_eq!(
        (
            &*candidate.rule.issuer,
            &*candidate.token,
            &*candidate.policy
        ),
        ("two", "h.iss-two.s", "ns/jwt")
    );
    let bearer_location = Location::Header(TokenHeader {
        name: "authorization".into(),
        prefix: "Bearer ".into(),
    });
    assert_eq!(candidate.location, bearer_location);
}

#[test]
fn tokens_of_no_use_are_refused() {
    let table = table(vec![rule("one")]);
    let refused = |error| {
        Plan::Refuse(Refusal::Token {
            policy: "ns/jwt".into(),
            error,
        })
    };
    let unknown = refused(TokenError::UnknownIssuer);
    assert_eq!(plan(&table, &bearer("h.iss-three.s")), unknown);
    let malformed = refused(TokenError::Malformed);
    for token in ["h.iss-one", "h.iss-one.s.x", "h.payload.s", "x"] {
        assert_eq!(plan(&table, &bearer(token)), malformed, "{token}");
    }
    let Plan::Refuse(refusal) = plan(&table, &bearer("x")) else {
        panic!()
    };
    assert_eq!(refusal.status(), 401);
    assert!(
        refusal
            .to_string()
            .starts_with("denied by request authentication ns/jwt: Jwt is not in the form"),
        "{refusal}"
    );
}

#[test]
fn places_of_tokens() {
    let header = |name: &str, prefix: &str| TokenHeader {
        name: name.into(),
        prefix: prefix.into(),
    };
    let places = JwtRule {
        from_headers: vec![header("x-token", ""), header("x-auth", "JWT ")],
        from_params: vec!["t".into()],
        from_cookies: vec!["session".into()],
        ..rule("one")
    };
    let table = table(vec![places]);
    let found = |parts: Parts| match plan(&table, &parts) {
        Plan::Verify(candidates) => candidates
            .iter()
            .map(|c| c.token.to_string())
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let headers = |headers: Vec<(&'static str, &str)>| Parts {
        headers: headers
            .into_iter()
            .map(|(n, v)| (n, v.to_owned()))
            .collect(),
        query: None,
    };
    assert_eq!(
        found(headers(vec![("x-token", "a.iss-one.b")])),
        ["a.iss-one.b"]
    );
    assert_eq!(
        found(headers(vec![("x-auth", "JWT   a.iss-one.b, rest")])),
        ["a.iss-one.b"]
    );
    assert_eq!(
        found(headers(vec![("cookie", "x=1; session=a.iss-one.b; y=2")])),
        ["a.iss-one.b"]
    );
    let query = Parts {
        query: Some("a=1&t=a.iss-one.b&t=".to_owned()),
        ..Parts::default()
    };
    assert_eq!(found(query), ["a.iss-one.b"]);
    assert_eq!(
        plan(&table, &bearer("a.iss-one.b")),
        Plan::Pass,
        "the usual place is not one of them"
    );
    assert_eq!(
        plan(&table, &headers(vec![("x-auth", "Bearer a.iss-one.b")])),
        Plan::Pass,
        "another prefix"
    );
    let usual = self::table(vec![rule("one")]);
    let query = Parts {
        query: Some("access_token=a.iss-one.b".to_owned()),
        ..Parts::default()
    };
    assert!(matches!(plan(&usual, &query), Plan::Verify(_)));
}

#[test]
fn one_usable_token_is_enough_to_go_on() {
    let here = JwtRule {
        from_params: vec!["t".into()],
        ..rule("one")
    };
    let table = table(vec![here, rule("two")]);
    let parts = Parts {
        query: Some("t=a.iss-one.b".to_owned()),
        ..bearer("garbage")
    };
    let Plan::Verify(candidates) = plan(&table, &parts) else {
        panic!("not verified")
    };
    assert_eq!(candidates.len(), 1);
}

#[test]
fn tokens_of_one_request_are_bounded() {
    let rules = (0..20).map(|_| rule("one")).collect();
    let Plan::Verify(candidates) = plan(&table(rules), &bearer("a.iss-one.b")) else {
        panic!("not verified")
    };
    assert_eq!(candidates.len(), crate::limits::TOKENS_PER_REQUEST);
}

#[test]
fn what_is_not_understood_refuses() {
    let json = r#"{"name":"ns/jwt","targets":[{"gateway":"ns/waypoint"}],"rules":[],"new":1}"#;
    let error = serde_json::from_str::<Authentication>(json).unwrap_err();
    let envelope: Envelope = serde_json::from_str(json).unwrap();
    let mut table = Authentications::default();
    table.insert(Authentication::undecodable(envelope, error.to_string()));
    let Plan::Refuse(refusal) = plan(&table, &Parts::default()) else {
        panic!("passes")
    };
    assert_eq!(refusal.status(), 403);
    assert!(refusal.to_string().contains("ns/jwt"), "{refusal}");
    table.insert_unreadable("ns/worse", "?");
    let other = [Target::Gateway("ns/other".into())];
    assert!(matches!(
        table.plan(&other, &Parts::default(), decode),
        Plan::Refuse(_)
    ));
    assert!(table.remove("ns/worse") && table.remove("ns/jwt") && table.is_empty());
}

#[test]
fn headers_of_ours_are_listed() {
    let own = JwtRule {
        payload_header: Some("x-payload".into()),
        claim_headers: vec![ClaimHeader {
            header: "x-sub".into(),
            claim: vec!["sub".into()],
        }],
        ..rule("one")
    };
    let table = table(vec![own]);
    let targets = [target()];
    let names: Vec<&str> = table.own_headers(&targets).map(|name| &**name).collect();
    assert_eq!(names, ["x-payload", "x-sub"]);
}

fn accepted(json: &str, rule: &JwtRule, now: u64) -> Result<Claims, TokenError> {
    Claims::parse(json.as_bytes()).and_then(|claims| claims.accept(rule, now))
}

#[test]
fn times_with_a_minute_of_grace() {
    let rule = rule("one");
    let token = r#"{"iss":"one","exp":1000,"nbf":500}"#;
    for (now, result) in [
        (439, Err(TokenError::NotYetValid)),
        (440, Ok(())),
        (1060, Ok(())),
        (1061, Err(TokenError::Expired)),
    ] {
        assert_eq!(accepted(token, &rule, now).map(|_| ()), result, "{now}");
    }
    let odd = accepted(r#"{"iss":"one","exp":"never"}"#, &rule, 1).unwrap_err();
    assert_eq!(odd, TokenError::Malformed);
}

#[test]
fn audiences_and_issuers() {
    let rule = JwtRule {
        audiences: vec!["https://example.com/".into()],
        ..rule("one")
    };
    assert!(accepted(r#"{"iss":"one","aud":"example.com"}"#, &rule, 1).is_ok());
    assert!(
        accepted(
            r#"{"iss":"one","aud":["x","http://example.com"]}"#,
            &rule,
            1
        )
        .is_ok()
    );
    assert_eq!(
        accepted(r#"{"iss":"one","aud":["x"]}"#, &rule, 1).unwrap_err(),
        TokenError::Audience
    );
    assert_eq!(
        accepted(r#"{"iss":"one"}"#, &rule, 1).unwrap_err(),
        TokenError::Audience
    );
    assert_eq!(
        accepted(r#"{"iss":"two"}"#, &rule, 1).unwrap_err(),
        TokenError::UnknownIssuer
    );
    assert_eq!(Claims::parse(b"[]").unwrap_err(), TokenError::Malformed);
}

#[test]
fn claims_as_headers() {
    let json =
        r#"{"iss":"one","sub":"me","n":{"m":7,"ok":true},"list":["a"],"none":null,"words":"a b"}"#;
    let rule = JwtRule {
        space_delimited: vec!["words".into()],
        ..rule("one")
    };
    let claims = accepted(json, &rule, 1).unwrap();
    let value = |path: &[&str]| {
        claims.header_value(path, |bytes| {
            format!("<{}>", String::from_utf8_lossy(bytes))
        })
    };
    assert_eq!(value(&["sub"]).as_deref(), Some("me"));
    assert_eq!(value(&["n", "m"]).as_deref(), Some("7"));
    assert_eq!(value(&["n", "ok"]).as_deref(), Some("true"));
    assert_eq!(value(&["list"]).as_deref(), Some(r#"<["a"]>"#));
    assert_eq!(value(&["none"]), None);
    assert_eq!(value(&["x"]), None);
    assert!(claims.any(&["words"], &mut |word| word == "b"));
    assert_eq!(claims.principal(), Some("one/me"));
}
