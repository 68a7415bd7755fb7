//! One certificate in use.

use std::time::{Duration, SystemTime};

use tulle_model::Identity;

use crate::credentials::Credentials;
use crate::tls::{self, ClientTls, Material, ServerTls, TlsError, TlsSettings};

/// One certificate of one identity, with the TLS configurations built from it. Immutable; renewal makes a new one.
#[derive(Debug)]
pub struct Epoch {
    /// Whose it is.
    pub identity: Identity,
    /// How this identity connects.
    pub client: ClientTls,
    /// How this identity is reached.
    pub server: ServerTls,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// What it was built from: for the keeper's sealed memory and, without the key, for dumps.
    pub credentials: Credentials,
}

impl Epoch {
    /// Builds both configurations.
    ///
    /// # Errors
    /// If key, chain and roots do not fit together.
    pub fn new(credentials: Credentials, settings: TlsSettings) -> Result<Self, TlsError> {
        let material = Material {
            identity: &credentials.identity,
            chain: &credentials.chain,
            key: &credentials.key,
            roots: tls::root_store(&credentials.roots)?,
        };
        let (client, server) = tls::pair(&material, settings)?;
        Ok(Self {
            identity: credentials.identity.clone(),
            client,
            server,
            not_before: credentials.not_before,
            not_after: credentials.not_after,
            serial: credentials.serial.clone(),
            credentials,
        })
    }

    /// Whether it may be used now.
    pub fn valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// How long it still lasts; zero when expired.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }
}
