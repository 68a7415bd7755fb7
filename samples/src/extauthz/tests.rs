use http_body_util::BodyExt as _;

use super::*;

struct Nothing;

impl Settings for Nothing {
    fn get(&self, _: &str) -> Option<String> {
        None
    }
}

fn asked(header: Option<&str>, principal: &str) -> Request {
    let message = CheckRequest {
        attributes: Some(Attributes {
            source: Some(Peer {
                principal: principal.to_owned(),
            }),
            request: Some(Asked {
                http: Some(Http {
                    headers: header
                        .into_iter()
                        .map(|value| (ASKED.to_owned(), value.to_owned()))
                        .collect(),
                    ..Http::default()
                }),
            }),
        }),
    };
    let mut request = Request::get(CHECK);
    request.body = [&[0; PREFIX][..], &message.encode_to_vec()].concat().into();
    request
}

async fn checked(request: &Request) -> CheckResponse {
    let (_, body) = ExtAuthz::new(&Nothing).answer(request).into_parts();
    let Ok(body) = body.collect().await;
    CheckResponse::decode(body.to_bytes()).unwrap()
}

#[tokio::test]
async fn grpc_by_header_else_by_account() {
    for (header, principal, allowed) in [
        (Some("allow"), "spiffe://td/ns/x/sa/b", true),
        (Some("deny"), "spiffe://td/ns/x/sa/a", false),
        (None, "spiffe://td/ns/x/sa/a", true),
        (None, "spiffe://td/ns/x/sa/b", false),
    ] {
        let answer = checked(&asked(header, principal)).await;
        assert_eq!(answer.ok.is_some(), allowed, "{header:?} {principal}");
        assert_eq!(answer.status.unwrap().code == 0, allowed);
        assert_eq!(answer.denied.is_some(), !allowed);
    }
}

#[test]
fn http_by_header() {
    let authorizer = ExtAuthz::new(&Nothing);
    let mut request = Request::get("/anything");
    let denied = authorizer.answer(&request);
    assert_eq!(denied.status(), 403);
    assert_eq!(denied.headers()[RESULT], "denied");
    request
        .headers
        .insert(ASKED, HeaderValue::from_static(ALLOWED));
    let allowed = authorizer.answer(&request);
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()[RESULT], "allowed");
}
