//! Host names of listeners and routes.

use std::sync::Arc;

use tulle_route::resource::HostPattern;

/// What of `route` a listener for `listener` serves; `None` is nothing.
pub(crate) fn intersect(listener: &str, route: &str) -> Option<Arc<str>> {
    if listener == route || route == "*" {
        return Some(listener.into());
    }
    if listener == "*" {
        return Some(route.into());
    }
    match (listener.strip_prefix('*'), route.strip_prefix('*')) {
        (None, None) => None,
        // `*.example.com` stands for any number of labels, and at least one.
        (Some(suffix), None) => under(route, suffix).then(|| route.into()),
        (None, Some(suffix)) => under(listener, suffix).then(|| listener.into()),
        (Some(wide), Some(narrow)) if narrow.ends_with(wide) => Some(route.into()),
        (Some(narrow), Some(wide)) if narrow.ends_with(wide) => Some(listener.into()),
        _ => None,
    }
}

fn under(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len() && host.ends_with(suffix)
}

/// Host names of a route at a listener, intersected: `None` when they have nothing in common; empty is any.
pub(super) fn common(
    listener: Option<&HostPattern>,
    route: &[Arc<str>],
) -> Option<Vec<HostPattern>> {
    let Some(listener) = listener else {
        return Some(route.iter().cloned().map(HostPattern).collect());
    };
    if route.is_empty() {
        return Some(vec![listener.clone()]);
    }
    let mut hosts: Vec<HostPattern> = route
        .iter()
        .filter_map(|host| intersect(&listener.0, host).map(HostPattern))
        .collect();
    hosts.sort();
    hosts.dedup();
    (!hosts.is_empty()).then_some(hosts)
}
