//! Keys of requests.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use tulle_model::Identity;

use super::Key;
use crate::request::{RequestHead, parameters};
use crate::resource::KeyPart;

/// A request and who makes it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The request.
    pub request: &'a RequestHead<'a>,
    /// The client's verified identity.
    pub identity: Option<&'a Identity>,
    /// The client's address, as authorization sees it.
    pub address: IpAddr,
}

impl Subject<'_> {
    /// The key that these parts make of it.
    pub fn key(&self, parts: &[KeyPart]) -> Key {
        // SipHash without a secret: replicas must agree. Each part is hashed with its length, so that parts cannot run together.
        let mut hashers = [DefaultHasher::new(), DefaultHasher::new()];
        let [_, second] = &mut hashers;
        second.write_u8(1);
        for part in parts {
            self.part(part, &mut |bytes| {
                for hasher in &mut hashers {
                    bytes.hash(hasher);
                }
            });
        }
        Key(hashers.map(|hasher| hasher.finish()))
    }

    fn part(&self, part: &KeyPart, hash: &mut dyn FnMut(&[u8])) {
        let request = self.request;
        match part {
            KeyPart::Identity => {
                hash(
                    self.identity
                        .map(ToString::to_string)
                        .unwrap_or_default()
                        .as_bytes(),
                );
            }
            KeyPart::Namespace => hash(self.identity.map_or("", |i| &*i.namespace).as_bytes()),
            KeyPart::Address => match self.address.to_canonical() {
                IpAddr::V4(address) => hash(&address.octets()),
                IpAddr::V6(address) => hash(&address.octets()),
            },
            KeyPart::Header(name) => {
                hash(request.headers.values(name).bytes().unwrap_or_default());
            }
            KeyPart::Query(name) => {
                let value = request.query.and_then(|q| parameters(q, name).next());
                hash(value.unwrap_or_default().as_bytes());
            }
            KeyPart::Claim(path) => hash(self.claim(path).as_bytes()),
            KeyPart::Path => hash(request.path.as_bytes()),
            KeyPart::Method => hash(request.method.as_bytes()),
            KeyPart::Host => hash(request.host.as_bytes()),
        }
    }

    /// The first value.
    fn claim(&self, path: &[Arc<str>]) -> String {
        let path: Vec<&str> = path.iter().map(|part| &**part).collect();
        let mut found = String::new();
        if let Some(claims) = self.request.claims {
            claims.any(&path, &mut |value| {
                value.clone_into(&mut found);
                true
            });
        }
        found
    }
}
