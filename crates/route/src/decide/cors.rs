//! Cross-origin requests (Fetch standard).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::error::{PatternError, RuleFault};
use crate::resource::{Cors, TextMatch};
use crate::text::{Pattern, Patterns};

/// A [`Cors`] filter, its answers prepared.
#[derive(Clone, Debug)]
pub struct CompiledCors {
    any_origin: bool,
    origins: Vec<Pattern>,
    methods: List,
    headers: List,
    expose: List,
    max_age: Option<HeaderValue>,
    credentials: bool,
    forward_unmatched: bool,
}

/// A list of names in a header.
#[derive(Clone, Debug)]
enum List {
    None,
    Any,
    These(HeaderValue),
}

/// What of a request matters here.
#[derive(Clone, Copy, Debug)]
pub struct CorsRequest<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// What is done about a cross-origin request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsDecision {
    /// No business of ours: it goes on.
    Pass,
    /// It goes on, and the answer gets these headers instead of the backend's own of that name.
    Decorate(HeaderMap),
    /// A preflight: answered here with 200 and these headers.
    Answer(HeaderMap),
}

impl CorsDecision {
    /// Puts the headers of [`CorsDecision::Decorate`] on a backend's answer: instead of its own, `Vary` in addition to it.
    pub fn decorate(&self, response: &mut HeaderMap) {
        let Self::Decorate(headers) = self else {
            return;
        };
        for (name, value) in headers {
            if name == VARY {
                response.append(name.clone(), value.clone());
            } else {
                response.insert(name.clone(), value.clone());
            }
        }
    }
}

impl CompiledCors {
    pub(crate) fn compile(cors: &Cors, patterns: &mut Patterns) -> Result<Self, RuleFault> {
        // Any origin is written in these ways.
        let any = |text: &TextMatch| match text {
            TextMatch::Exact(text) => &**text == "*",
            TextMatch::Regex(text) => &**text == ".*",
            TextMatch::Present => true,
            TextMatch::Prefix(_) | TextMatch::Suffix(_) => false,
        };
        let max_age = cors.max_age.map(|age| HeaderValue::from(age.as_secs()));
        Ok(Self {
            any_origin: cors.origins.iter().any(any),
            origins: cors
                .origins
                .iter()
                .map(|origin| Pattern::compile(origin, patterns))
                .collect::<Result<_, PatternError>>()?,
            methods: List::compile(&cors.methods)?,
            headers: List::compile(&cors.headers)?,
            expose: List::compile(&cors.expose)?,
            max_age,
            credentials: cors.credentials,
            forward_unmatched: cors.forward_unmatched,
        })
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.any_origin
            || self
                .origins
                .iter()
                .any(|pattern| pattern.matches(origin.as_bytes()))
    }
}

impl List {
    fn compile(names: &[std::sync::Arc<str>]) -> Result<Self, RuleFault> {
        if names.is_empty() {
            return Ok(Self::None);
        }
        if names.iter().any(|name| &**name == "*") {
            return Ok(Self::Any);
        }
        let joined = names.join(", ");
        HeaderValue::from_str(&joined)
            .map(Self::These)
            .map_err(|_| RuleFault::Header {
                name: "cors".into(),
                value: joined.into(),
            })
    }

    /// With credentials a browser takes `*` literally, so that what was asked for is said instead.
    fn answer(&self, credentials: bool, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::These(names) => Some(names.clone()),
            Self::Any if credentials => asked.cloned(),
            Self::Any => Some(HeaderValue::from_static("*")),
        }
    }
}

/// Decides about a request: it is one of these only if it has an `Origin`; a preflight has `Access-Control-Request-Method`, too.
pub fn cors(policy: &CompiledCors, request: CorsRequest<'_>) -> CorsDecision {
    let Some(origin) = request.headers.get(ORIGIN) else {
        return CorsDecision::Pass;
    };
    let asked_method = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let preflight = asked_method.filter(|_| request.method == Method::OPTIONS);
    match (policy.allows(origin), preflight) {
        (true, Some(method)) => CorsDecision::Answer(answer(policy, request, origin, method)),
        (true, None) => CorsDecision::Decorate(decoration(policy, origin)),
        (false, Some(_)) if !policy.forward_unmatched => CorsDecision::Answer(HeaderMap::new()),
        (false, _) => CorsDecision::Pass,
    }
}

fn answer(
    policy: &CompiledCors,
    request: CorsRequest<'_>,
    origin: &HeaderValue,
    method: &HeaderValue,
) -> HeaderMap {
    let mut headers = decoration(policy, origin);
    let asked = request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let lists = [
        (ACCESS_CONTROL_ALLOW_METHODS, &policy.methods, Some(method)),
        (ACCESS_CONTROL_ALLOW_HEADERS, &policy.headers, asked),
    ];
    for (name, list, asked) in lists {
        if let Some(value) = list.answer(policy.credentials, asked) {
            headers.insert(name, value);
        }
    }
    if let Some(age) = &policy.max_age {
        headers.insert(ACCESS_CONTROL_MAX_AGE, age.clone());
    }
    headers
}

/// The headers of every answer to an allowed origin.
fn decoration(policy: &CompiledCors, origin: &HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if policy.any_origin && !policy.credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        // The answer depends on who asks: caches must know.
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
    if policy.credentials {
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    if let Some(expose) = policy.expose.answer(policy.credentials, None) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose);
    }
    headers
}
