use super::*;

fn option(key: &str, value: &str, append: Option<bool>) -> HeaderOption {
    HeaderOption {
        header: Some(Header {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Bytes::new(),
        }),
        append: append.map(|value| Flag { value }),
    }
}

#[test]
fn an_answer_that_allows_edits_the_request() {
    let response = CheckResponse {
        status: Some(Status { code: 0 }),
        denied: None,
        ok: Some(OkResponse {
            headers: vec![
                option("x-user", "alice", None),
                option("x-group", "a", Some(true)),
                option(":path", "/elsewhere", None),
            ],
            headers_to_remove: vec!["cookie".to_owned()],
            response_headers: vec![option("x-checked", "yes", None)],
        }),
    };
    let Verdict::Allowed(allowed) = judge(response) else {
        panic!("it allows");
    };
    assert_eq!(
        allowed.set,
        [("x-user".parse().unwrap(), "alice".parse().unwrap())]
    );
    assert_eq!(
        allowed.add,
        [("x-group".parse().unwrap(), "a".parse().unwrap())]
    );
    assert_eq!(allowed.remove, ["cookie"]);
    assert_eq!(allowed.after.0.len(), 1);
}

#[test]
fn a_denial_is_passed_on_and_without_a_status_it_is_403() {
    let denial = |status| CheckResponse {
        status: Some(Status { code: 7 }),
        denied: Some(DeniedResponse {
            status,
            headers: vec![option("x-why", "because", None)],
            body: "no".to_owned(),
        }),
        ok: None,
    };
    let Verdict::Denied(reply) = judge(denial(Some(HttpStatus { code: 401 }))) else {
        panic!("it denies");
    };
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (401, "no"));
    assert_eq!(reply.headers["x-why"], "because");
    let Verdict::Denied(reply) = judge(denial(None)) else {
        panic!("it denies");
    };
    assert_eq!(reply.status.as_u16(), 403);
}
