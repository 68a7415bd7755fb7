//! Keys of issuers, from where their rules say.
//!
//! Who may write a RequestAuthentication chooses where this proxy asks. It asks in the mesh and outside of it, but never itself,
//! its node's metadata service, or what the operator forbids: see [`forbidden`]. Redirects are not followed.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use ipnet::IpNet;
use rand::seq::IteratorRandom as _;
use tokio::net::lookup_host;
use tulle_http::body::Body;
use tulle_policy::jwt::{JwtRule, Keys};

use crate::call::within;
use crate::destination::{self, Hop};
use crate::limits::ISSUER_ADDRESSES;
use crate::state::Snapshot;
use crate::upstream;
use crate::worker::Worker;

/// The key set of a rule, as text.
pub(crate) async fn keys(worker: &Rc<Worker>, rule: &JwtRule) -> Result<String, String> {
    let url = match &rule.keys {
        Keys::Discovery => discovered(worker, rule).await?,
        Keys::Uri(url) => url.to_string(),
        Keys::Inline(text) => return Ok(text.to_string()),
    };
    text(get(worker, &url, rule.timeout).await?)
}

/// OpenID Connect Discovery: the issuer says where its keys are.
async fn discovered(worker: &Rc<Worker>, rule: &JwtRule) -> Result<String, String> {
    let base = rule.issuer.trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let found = text(get(worker, &url, rule.timeout).await?)?;
    let found: serde_json::Value =
        serde_json::from_str(&found).map_err(|_| format!("{url} is no JSON"))?;
    let place = found.get("jwks_uri").and_then(|uri| uri.as_str());
    let place = place.ok_or_else(|| format!("{url} names no jwks_uri"))?;
    if url.starts_with("https://") && !place.starts_with("https://") {
        return Err(format!("{url} names a jwks_uri that is not https"));
    }
    Ok(place.to_owned())
}

fn text(bytes: Bytes) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "the answer is no text".to_owned())
}

/// One GET. TLS is verified against the system's roots.
async fn get(worker: &Rc<Worker>, url: &str, time: Duration) -> Result<Bytes, String> {
    let url: Uri = url.parse().map_err(|_| "it is no URL")?;
    let secure = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("it is no http or https URL".to_owned()),
    };
    let host = url.host().ok_or("the URL has no host")?;
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::builder()
        .uri(path)
        .header(header::HOST, url.authority().map_or(host, |a| a.as_str()))
        .header(header::ACCEPT, "application/json")
        .body(Body::empty())
        .map_err(|error| error.to_string())?;
    let snapshot = worker.shared.state.load();
    let tls = secure.then(upstream::system_tls).transpose()?;
    let getting = async {
        let hop = way(worker, &snapshot, host, port).await?;
        let tls = tls.as_ref().map(|tls| (tls, bare(host)));
        let response = upstream::send_to(worker, &hop, request, tls)
            .await
            .map_err(|unsent| unsent.why.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        let collected = response
            .into_body()
            .collect(tulle_identity::limits::MAX_JWKS);
        let (bytes, _) = collected.await.map_err(|error| error.to_string())?;
        Ok(bytes)
    };
    within(time, getting).await
}

/// A host of the mesh is reached as the mesh does it; any other by DNS, at an address that was looked at.
async fn way(worker: &Worker, snapshot: &Snapshot, host: &str, port: u16) -> Result<Hop, String> {
    let blocked = &worker.shared.options.blocked_key_networks;
    if let Some(hop) = in_mesh(snapshot, host, port) {
        return match &hop {
            Hop::Plain(to) => allowed(to.ip(), blocked).map(|()| hop),
            _ => Ok(hop),
        };
    }
    let found = lookup_host((bare(host), port))
        .await
        .map_err(|_| format!("cannot resolve {host}"))?;
    let all: Vec<SocketAddr> = found.take(ISSUER_ADDRESSES).collect();
    // One address that is not allowed is enough: whoever answers for the name is not to be believed.
    all.iter()
        .try_for_each(|address| allowed(address.ip(), blocked))?;
    let at = usize::try_from(rand::random::<u32>()).unwrap_or(0) % all.len().max(1);
    let to = all
        .get(at)
        .ok_or_else(|| format!("cannot resolve {host}"))?;
    Ok(Hop::Plain(*to))
}

/// An address of IPv6 has brackets in a URL, and nowhere else.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Any endpoint of the service that a host names, also without the cluster's domain.
fn in_mesh(snapshot: &Snapshot, host: &str, port: u16) -> Option<Hop> {
    let domain = &snapshot.settings.cluster_domain;
    let long = [format!("{host}.{domain}"), format!("{host}.svc.{domain}")];
    let is_named = |name: &str| name == host || long.iter().any(|long| long == name);
    let service = snapshot.mesh.services().find(|s| is_named(&s.hostname))?;
    let key = service.key();
    let all = snapshot.mesh.endpoints(&key);
    let usable = all.filter_map(|w| destination::endpoint_of(w, service, port));
    // One that is broken is not asked each time.
    Some(usable.choose(&mut rand::rng())?.hop)
}

fn allowed(address: IpAddr, blocked: &[IpNet]) -> Result<(), String> {
    match forbidden(address, blocked) {
        None => Ok(()),
        Some(why) => Err(format!("{address} is not asked for keys: {why}")),
    }
}

/// Why an address is not asked: it is this proxy's own, of the node's metadata service, or no address of a server; or the operator
/// says so (`BLOCKED_CIDRS_IN_JWKS_URIS`). Private addresses are allowed: issuers in the cluster have them.
fn forbidden(address: IpAddr, blocked: &[IpNet]) -> Option<&'static str> {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() {
        Some("it is the proxy's own")
    } else if link_local {
        Some("it is link-local")
    } else if address.is_unspecified() || address.is_multicast() {
        Some("no server has it")
    } else if blocked.iter().any(|net| net.contains(&address)) {
        Some("BLOCKED_CIDRS_IN_JWKS_URIS has it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_are_asked() {
        let blocked = ["10.9.0.0/16".parse().unwrap()];
        for (address, fine) in [
            ("10.244.1.5", true),
            ("192.168.1.1", true),
            ("203.0.113.7", true),
            ("fd00::7", true),
            ("10.9.1.1", false),
            ("::ffff:10.9.1.1", false),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
        ] {
            let verdict = allowed(address.parse().unwrap(), &blocked);
            assert_eq!(verdict.is_ok(), fine, "{address}: {verdict:?}");
        }
    }
}
