//! What happens to requests of a route on their way.

use std::sync::Arc;

use tulle_api::networking::{
    CorsPolicy, HeaderOperations, Headers, HttpFaultInjection, HttpRewrite, HttpRoute as ApiRoute,
    Percent, UnmatchedPreflights,
};
use tulle_route::resource::{
    Abort, Cors, Delay, Fault, Filter, Fraction, HeaderEdits, Mirror, PathRewrite, Rewrite,
    TextMatch,
};

use super::matches::compiles;
use super::retries::grpc_code;
use super::rules::Context;
use crate::networking::findings::shown;

/// Istio counts percents in ten-thousandths.
const DENOMINATOR: u32 = 1_000_000;
const PER_PERCENT: f64 = 10_000.0;

/// In the order of the pipeline: CORS, fault, then what changes the request, copies of it, and the response.
pub(super) fn of_route(
    context: &mut Context<'_>,
    path: &str,
    route: &ApiRoute,
    headers: Option<&Headers>,
) -> Vec<Filter> {
    let mut filters = Vec::new();
    if let Some(policy) = &route.cors_policy {
        filters.push(Filter::Cors(cors(
            context,
            &format!("{path}.corsPolicy"),
            policy,
        )));
    }
    if let Some(fault) = &route.fault {
        filters.extend(self::fault(context, &format!("{path}.fault"), fault).map(Filter::Fault));
    }
    let (edits, host) = split(edits(context, path, headers));
    let mut rewrite = route
        .rewrite
        .as_ref()
        .map(|r| self::rewrite(context, &format!("{path}.rewrite"), r));
    if let Some(host) = host {
        rewrite.get_or_insert_default().host.get_or_insert(host);
    }
    let (request, response): (Vec<_>, Vec<_>) = edits
        .into_iter()
        .partition(|filter| matches!(filter, Filter::RequestHeaders(_)));
    filters.extend(request);
    filters.extend(rewrite.map(Filter::Rewrite));
    filters.extend(mirrors(context, path, route));
    filters.extend(response);
    filters
}

/// A `Host` that is set is the new authority.
fn split(filters: Vec<Filter>) -> (Vec<Filter>, Option<Arc<str>>) {
    let mut host = None;
    let filters = filters.into_iter().filter_map(|filter| match filter {
        Filter::RequestHeaders(mut edits) => {
            edits.set.retain(|(name, value)| {
                let authority = matches!(&**name, "host" | ":authority");
                if authority {
                    host = Some(value.clone());
                }
                !authority
            });
            (edits != HeaderEdits::default()).then_some(Filter::RequestHeaders(edits))
        }
        other => Some(other),
    });
    let filters = filters.collect();
    (filters, host)
}

/// Changes to headers, of a route or of one destination.
pub(super) fn edits(
    context: &mut Context<'_>,
    path: &str,
    headers: Option<&Headers>,
) -> Vec<Filter> {
    let Some(headers) = headers else {
        return Vec::new();
    };
    let request = headers
        .request
        .as_ref()
        .and_then(|o| operations(context, &format!("{path}.headers.request"), o));
    let response = headers
        .response
        .as_ref()
        .and_then(|o| operations(context, &format!("{path}.headers.response"), o));
    let request = request.map(Filter::RequestHeaders);
    request
        .into_iter()
        .chain(response.map(Filter::ResponseHeaders))
        .collect()
}

fn operations(
    context: &mut Context<'_>,
    path: &str,
    operations: &HeaderOperations,
) -> Option<HeaderEdits> {
    let mut sound = |name: &str, value: &str| {
        let name_sound = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        let value_sound = !value.bytes().any(|b| b == b'\r' || b == b'\n' || b == 0);
        if !(name_sound && value_sound) {
            context
                .findings
                .invalid(path, format!("{:?} is no header, left out", shown(name)));
        }
        name_sound && value_sound
    };
    let mut edits = HeaderEdits::default();
    for (name, value) in operations
        .set
        .iter()
        .filter(|(name, value)| sound(name, value))
    {
        edits
            .set
            .push((name.to_ascii_lowercase().into(), value.as_str().into()));
    }
    for (name, value) in operations
        .add
        .iter()
        .filter(|(name, value)| sound(name, value))
    {
        edits
            .add
            .push((name.to_ascii_lowercase().into(), value.as_str().into()));
    }
    for name in operations.remove.iter().filter(|name| sound(name, "")) {
        edits.remove.push(name.to_ascii_lowercase().into());
    }
    (edits != HeaderEdits::default()).then_some(edits)
}

fn rewrite(context: &mut Context<'_>, path: &str, rewrite: &HttpRewrite) -> Rewrite {
    let uri = rewrite
        .uri
        .as_deref()
        .filter(|uri| !uri.is_empty())
        .map(|uri| PathRewrite::Text(uri.into()));
    let regex = rewrite.uri_regex_rewrite.as_ref().and_then(|r| {
        let pattern = r.matches.as_deref().unwrap_or_default();
        if let Err(why) = compiles(pattern) {
            context.findings.invalid(
                format!("{path}.uriRegexRewrite.match"),
                format!("{why}, the path is left as it is"),
            );
            return None;
        }
        let replacement = r.rewrite.as_deref().unwrap_or_default();
        Some(PathRewrite::Regex {
            pattern: pattern.into(),
            replacement: replacement.into(),
        })
    });
    let host = rewrite.authority.as_deref().filter(|host| !host.is_empty());
    Rewrite {
        host: host.map(Arc::from),
        path: regex.or(uri),
    }
}

/// Everything is copied unless a share is given.
fn mirrors(context: &mut Context<'_>, path: &str, route: &ApiRoute) -> Vec<Filter> {
    let mut mirrors = Vec::new();
    if let Some(destination) = &route.mirror {
        let old = route
            .mirror_percent
            .or(route.mirror_percent_snake)
            .map(f64::from);
        let share = route
            .mirror_percentage
            .as_ref()
            .map(percent)
            .or(old)
            .unwrap_or(100.0);
        mirrors.push((format!("{path}.mirror"), destination, share));
    }
    for (at, mirror) in route.mirrors.iter().enumerate() {
        let share = mirror.percentage.as_ref().map_or(100.0, percent);
        mirrors.push((
            format!("{path}.mirrors[{at}].destination"),
            &mirror.destination,
            share,
        ));
    }
    let mirrors = mirrors.into_iter().filter(|(_, _, share)| *share > 0.0);
    mirrors
        .map(|(path, destination, share)| {
            let target = context.target(&path, destination);
            Filter::Mirror(Mirror {
                target,
                fraction: fraction(share),
            })
        })
        .collect()
}

fn fault(context: &mut Context<'_>, path: &str, fault: &HttpFaultInjection) -> Option<Fault> {
    let delay = fault.delay.as_ref().and_then(|delay| {
        if delay.exponential_delay.is_some() {
            context.findings.unsupported(
                format!("{path}.delay.exponentialDelay"),
                "has no effect, use fixedDelay",
            );
        }
        let fixed = context.span(
            &format!("{path}.delay.fixedDelay"),
            delay.fixed_delay.as_deref()?,
        )?;
        let share = delay
            .percentage
            .as_ref()
            .map_or_else(|| f64::from(delay.percent.unwrap_or_default()), percent);
        Some(Delay {
            fixed,
            fraction: fraction(share),
        })
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        // As Istio's API says: without a share nothing is aborted.
        let fraction = fraction(abort.percentage.as_ref().map_or(0.0, percent));
        if abort.http2_error.is_some() {
            context.findings.unsupported(
                format!("{path}.abort.http2Error"),
                "has no effect, use httpStatus or grpcStatus",
            );
        }
        if let Some(name) = abort.grpc_status.as_deref() {
            let Some(code) = grpc_code(name) else {
                context.findings.invalid(
                    format!("{path}.abort.grpcStatus"),
                    format!("{:?} is no gRPC status", shown(name)),
                );
                return None;
            };
            return Some(Abort {
                status: 200,
                grpc: Some(code),
                fraction,
            });
        }
        let status = abort.http_status?;
        match u16::try_from(status)
            .ok()
            .filter(|status| (200..600).contains(status))
        {
            Some(status) => Some(Abort {
                status,
                grpc: None,
                fraction,
            }),
            None => {
                context.findings.invalid(
                    format!("{path}.abort.httpStatus"),
                    format!("{status} is no HTTP status"),
                );
                None
            }
        }
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

fn cors(context: &mut Context<'_>, path: &str, policy: &CorsPolicy) -> Cors {
    let mut origins: Vec<TextMatch> = Vec::new();
    for origin in &policy.allow_origin {
        origins.push(if origin == "*" {
            any()
        } else {
            TextMatch::Exact(origin.as_str().into())
        });
    }
    for (at, origin) in policy.allow_origins.iter().enumerate() {
        let text = match (&origin.exact, &origin.prefix, &origin.regex) {
            (Some(exact), ..) if exact == "*" => any(),
            (Some(exact), ..) => TextMatch::Exact(exact.as_str().into()),
            (_, Some(prefix), _) => TextMatch::Prefix(prefix.as_str().into()),
            (.., Some(regex)) => match compiles(regex) {
                Ok(()) => TextMatch::Regex(regex.as_str().into()),
                Err(why) => {
                    context.findings.invalid(
                        format!("{path}.allowOrigins[{at}].regex"),
                        format!("{why}, left out"),
                    );
                    continue;
                }
            },
            (None, None, None) => continue,
        };
        origins.push(text);
    }
    let texts = |list: &[String]| list.iter().map(|text| Arc::from(text.as_str())).collect();
    let max_age = policy.max_age.as_deref();
    Cors {
        origins,
        methods: texts(&policy.allow_methods),
        headers: texts(&policy.allow_headers),
        expose: texts(&policy.expose_headers),
        max_age: max_age.and_then(|text| context.span(&format!("{path}.maxAge"), text)),
        credentials: policy.allow_credentials.unwrap_or_default(),
        forward_unmatched: policy.unmatched_preflights != Some(UnmatchedPreflights::Ignore),
    }
}

/// As everybody here writes "any origin".
fn any() -> TextMatch {
    TextMatch::Regex(".*".into())
}

fn percent(percent: &Percent) -> f64 {
    percent.value.unwrap_or_default()
}

/// A share of requests, with Istio's precision.
pub(super) fn fraction(percent: f64) -> Fraction {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0 to 1,000,000"
    )]
    let numerator = (percent * PER_PERCENT)
        .round()
        .clamp(0.0, f64::from(DENOMINATOR)) as u32;
    Fraction {
        numerator,
        denominator: DENOMINATOR,
    }
}
