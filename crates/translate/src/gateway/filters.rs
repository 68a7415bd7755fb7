//! Filters of HTTPRoutes and GRPCRoutes.

use std::sync::Arc;
use std::time::Duration;

use tulle_api::gateway as api;
use tulle_route::resource::{
    BackendTarget, Cors, Filter, Fraction, HeaderEdits, Mirror, PathRewrite, Redirect, Rewrite,
    TextMatch,
};

use super::routes::Found;
use super::{Problem, RouteId};
use crate::cluster::Cluster;

/// How long a preflight counts when nothing is said (Gateway API).
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(5);
/// Status of a redirect when nothing is said.
const FOUND: u16 = 302;

/// What filters make of a rule or backend.
#[derive(Default)]
pub(super) struct Action {
    pub(super) filters: Vec<Filter>,
    pub(super) redirect: Option<Redirect>,
}

impl Cluster {
    /// Adds a filter. One that cannot be used makes the requests fail, and is told.
    pub(super) fn http_filter(
        &self,
        id: &RouteId,
        filter: &api::HttpFilter,
        action: &mut Action,
        found: &mut Found,
    ) {
        let translated = match filter.type_.as_str() {
            "RequestHeaderModifier" => filter
                .request_header_modifier
                .as_ref()
                .map(|h| Filter::RequestHeaders(edits(h))),
            "ResponseHeaderModifier" => filter
                .response_header_modifier
                .as_ref()
                .map(|h| Filter::ResponseHeaders(edits(h))),
            "RequestMirror" => match &filter.request_mirror {
                Some(mirror) => return self.mirror(id, mirror, action, found),
                None => None,
            },
            "RequestRedirect" => match &filter.request_redirect {
                Some(of) => {
                    action.redirect = Some(redirect(of));
                    return;
                }
                None => None,
            },
            "URLRewrite" => filter.url_rewrite.as_ref().map(|of| {
                Filter::Rewrite(Rewrite {
                    host: of.hostname.as_deref().map(Arc::from),
                    path: of.path.as_ref().and_then(path),
                })
            }),
            "CORS" => filter.cors.as_ref().map(|of| Filter::Cors(cors(of))),
            "ExtensionRef" => {
                let name = filter
                    .extension_ref
                    .as_ref()
                    .map_or("", |reference| &reference.name);
                let problem = Problem::new(
                    "InvalidKind",
                    format!("extensionRef {name:?}: no such filter is known"),
                );
                return invalid(problem, action, found);
            }
            other => {
                let problem = Problem::new(
                    "UnsupportedValue",
                    format!("filter {other:?} is not supported"),
                );
                return invalid(problem, action, found);
            }
        };
        match translated {
            Some(filter) => action.filters.push(filter),
            None => {
                let message = format!("filter {} has no settings", filter.type_);
                invalid(Problem::new("UnsupportedValue", message), action, found);
            }
        }
    }

    /// The same for GRPCRoutes, whose filters are fewer.
    pub(super) fn grpc_filter(
        &self,
        id: &RouteId,
        filter: &api::GrpcFilter,
        action: &mut Action,
        found: &mut Found,
    ) {
        let filter = api::HttpFilter {
            type_: filter.type_.clone(),
            request_header_modifier: filter.request_header_modifier.clone(),
            response_header_modifier: filter.response_header_modifier.clone(),
            request_mirror: filter.request_mirror.clone(),
            extension_ref: filter.extension_ref.clone(),
            ..api::HttpFilter::default()
        };
        self.http_filter(id, &filter, action, found);
    }

    /// A copy that leads nowhere is not sent; the request itself is not disturbed.
    fn mirror(
        &self,
        id: &RouteId,
        mirror: &api::MirrorFilter,
        action: &mut Action,
        found: &mut Found,
    ) {
        let target = self.backend(id, &mirror.backend_ref, &mut found.unresolved);
        if matches!(target, BackendTarget::Unroutable(_)) {
            return;
        }
        let part = |n: i64| u32::try_from(n).unwrap_or_default();
        let fraction = match (&mirror.fraction, mirror.percent) {
            (Some(of), _) => Fraction {
                numerator: part(of.numerator),
                denominator: part(of.denominator.unwrap_or(100)).max(1),
            },
            (None, percent) => Fraction {
                numerator: part(percent.unwrap_or(100)),
                denominator: 100,
            },
        };
        action
            .filters
            .push(Filter::Mirror(Mirror { target, fraction }));
    }
}

fn invalid(problem: Problem, action: &mut Action, found: &mut Found) {
    action
        .filters
        .push(Filter::Invalid(problem.message.as_str().into()));
    found.unresolved.get_or_insert(problem);
}

fn edits(of: &api::HeaderFilter) -> HeaderEdits {
    let name = |name: &str| -> Arc<str> { name.to_ascii_lowercase().into() };
    let pairs = |all: &[api::HeaderValue]| -> Vec<(Arc<str>, Arc<str>)> {
        let usable = all.iter().filter(|h| !h.value.contains(['\r', '\n', '\0']));
        usable
            .map(|h| (name(&h.name), h.value.as_str().into()))
            .collect()
    };
    HeaderEdits {
        set: pairs(&of.set),
        add: pairs(&of.add),
        remove: of.remove.iter().map(|n| name(n)).collect(),
    }
}

fn path(of: &api::PathModifier) -> Option<PathRewrite> {
    match of.type_.as_str() {
        "ReplaceFullPath" => Some(PathRewrite::Full(of.replace_full_path.as_deref()?.into())),
        "ReplacePrefixMatch" => Some(PathRewrite::Prefix(
            of.replace_prefix_match.as_deref()?.into(),
        )),
        _ => None,
    }
}

fn redirect(of: &api::RedirectFilter) -> Redirect {
    let number = |n: Option<i64>| n.and_then(|n| u16::try_from(n).ok());
    Redirect {
        status: number(of.status_code).unwrap_or(FOUND),
        scheme: of.scheme.as_deref().map(Arc::from),
        host: of.hostname.as_deref().map(Arc::from),
        port: number(of.port),
        port_of_scheme: false,
        path: of.path.as_ref().and_then(path),
    }
}

fn cors(of: &api::CorsFilter) -> Cors {
    let texts = |all: &[String]| all.iter().map(|text| text.as_str().into()).collect();
    Cors {
        origins: of
            .allow_origins
            .iter()
            .map(|origin| self::origin(origin))
            .collect(),
        methods: texts(&of.allow_methods),
        headers: texts(&of.allow_headers),
        expose: texts(&of.expose_headers),
        max_age: Some(match of.max_age.and_then(|age| u64::try_from(age).ok()) {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => DEFAULT_MAX_AGE,
        }),
        credentials: of.allow_credentials.unwrap_or_default(),
        forward_unmatched: false,
    }
}

/// `*` stands for everything, and inside of an origin for one or more characters of it.
fn origin(text: &str) -> TextMatch {
    if text == "*" {
        return TextMatch::Regex(".*".into());
    }
    if !text.contains('*') {
        return TextMatch::Exact(text.into());
    }
    TextMatch::Regex(regex::escape(text).replace("\\*", "[^/]+").into())
}
