//! What is hashed of a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::stable_hash;
use crate::request::{RequestHead, parameters};
use crate::resource::HashKey;

/// The hash of a request, and the cookie that its client must get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// `None`: the request has no key, and is balanced at random.
    pub hash: Option<u64>,
    /// To be sent with the answer.
    pub cookie: Option<SetCookie>,
}

/// A cookie that was made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie {
    name: Arc<str>,
    value: String,
    path: Option<Arc<str>>,
    ttl: Duration,
}

impl std::fmt::Display for SetCookie {
    /// Value of `Set-Cookie`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=\"{}\"", self.name, self.value)?;
        // Zero is for the session: no lifetime is said.
        if !self.ttl.is_zero() {
            write!(f, "; Max-Age={}", self.ttl.as_secs())?;
        }
        if let Some(path) = &self.path {
            write!(f, "; Path={path}")?;
        }
        f.write_str("; HttpOnly")
    }
}

/// The hash of what `key` names in a request. `dice` makes a cookie's value where there is none.
pub fn hash_key(key: &HashKey, request: &RequestHead<'_>, client: IpAddr, dice: u64) -> Hashed {
    let of = |bytes: Option<&[u8]>| Hashed {
        hash: bytes.map(stable_hash),
        cookie: None,
    };
    match key {
        HashKey::Header(name) => of(request.headers.values(name).bytes()),
        HashKey::SourceAddress => of(Some(client.to_canonical().to_string().as_bytes())),
        HashKey::Query(name) => {
            let value = request.query.and_then(|q| parameters(q, name).next());
            of(value.map(str::as_bytes))
        }
        HashKey::Cookie { name, path, ttl } => {
            let cookies = request.headers.values("cookie");
            match cookies.bytes().and_then(|all| cookie(all, name)) {
                Some(value) => of(Some(value)),
                None => match ttl {
                    None => Hashed::default(),
                    Some(ttl) => made(name, path.clone(), *ttl, dice),
                },
            }
        }
    }
}

fn made(name: &Arc<str>, path: Option<Arc<str>>, ttl: Duration, dice: u64) -> Hashed {
    let value = format!("{:016x}", stable_hash(&dice.to_le_bytes()));
    Hashed {
        hash: Some(stable_hash(value.as_bytes())),
        cookie: Some(SetCookie {
            name: name.clone(),
            value,
            path,
            ttl,
        }),
    }
}

/// Value of one cookie. Lines of cookies were joined by commas.
fn cookie<'a>(all: &'a [u8], name: &str) -> Option<&'a [u8]> {
    all.split(|b| matches!(b, b';' | b',')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(
            value
                .strip_prefix(b"\"")
                .map_or(value, |v| v.strip_suffix(b"\"").unwrap_or(v)),
        )
    })
}
