//! Asked by HTTP: the check is the request's head at the provider; 200 allows.

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use bytes::Bytes;
use tulle_http::body::Body;
use tulle_policy::settings::ExtAuthzHttp;

use super::{After, Allowed, Verdict, denied, listed};
use crate::call;
use crate::canonical::Canonical;
use crate::exchange::Exchange;
use crate::limits::CHECK_ANSWER;

/// What every check carries.
const ALWAYS: [HeaderName; 1] = [header::AUTHORIZATION];
/// What clients always get of a denial.
const ALWAYS_BACK: [HeaderName; 4] = [
    header::WWW_AUTHENTICATE,
    header::LOCATION,
    header::PROXY_AUTHENTICATE,
    header::CONTENT_TYPE,
];

pub(super) async fn ask(
    exchange: &Exchange,
    head: &Parts,
    canonical: &Canonical,
    provider: &ExtAuthzHttp,
    body: Option<Bytes>,
) -> Verdict {
    let request = match question(head, canonical, provider, body) {
        Ok(request) => request,
        Err(why) => return Verdict::Silent(why.to_string()),
    };
    let answered = call::provider(exchange, &provider.upstream, request, false).await;
    let (answer, body) = match answered {
        Ok(response) => response.into_parts(),
        Err(why) => return Verdict::Silent(why),
    };
    if answer.status.as_u16() == 200 {
        let named = |list: &[std::sync::Arc<str>]| -> Vec<(HeaderName, HeaderValue)> {
            let all = answer.headers.iter();
            all.filter(|(name, _)| listed(list, name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        return Verdict::Allowed(Allowed {
            set: named(&provider.to_upstream),
            after: After(named(&provider.to_client_on_allow)),
            ..Allowed::default()
        });
    }
    if answer.status.is_server_error() {
        return Verdict::Silent(format!("the provider answered with {}", answer.status));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &answer.headers {
        let hop = name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING;
        let back = ALWAYS_BACK.contains(name)
            || provider.to_client_on_deny.is_empty()
            || listed(&provider.to_client_on_deny, name.as_str());
        if back && !hop {
            headers.append(name.clone(), value.clone());
        }
    }
    let text = body.collect(CHECK_ANSWER).await;
    let text = text.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned());
    denied(answer.status.as_u16(), headers, text.unwrap_or_default())
}

fn question(
    head: &Parts,
    canonical: &Canonical,
    provider: &ExtAuthzHttp,
    body: Option<Bytes>,
) -> Result<Request<Body>, ::http::Error> {
    let path = format!("{}{}", provider.path_prefix, canonical.target());
    let mut request = Request::builder()
        .method(head.method.clone())
        .uri(path)
        .header(header::HOST, &*canonical.authority);
    for (name, value) in &head.headers {
        let carried = ALWAYS.contains(name) || listed(&provider.include_headers, name.as_str());
        if carried && name != header::HOST {
            request = request.header(name, value);
        }
    }
    for (name, value) in &provider.add_headers {
        request = request.header(&**name, &**value);
    }
    request.body(body.map_or_else(Body::empty, Body::full))
}
