//! SPIFFE identities, keys, issuing, verification, rotation, and TLS per identity epoch.
//!
//! Told top-down: [`Certificates`] keeps one [`Epoch`] per identity that this process speaks for and renews it through
//! an [`Issuer`]; an epoch holds the TLS configurations of one certificate; [`Authority`] is the other end, which signs.
//! rustls, its crypto provider and the X.509 crates are imported here and nowhere else.

mod authority;
pub mod backend;
mod certificate;
pub mod channel;
mod credentials;
mod epoch;
#[cfg(test)]
mod fixture;
#[doc(hidden)]
pub mod fuzz;
pub mod gateway;
pub mod grpc;
mod issue;
pub mod jwt;
pub mod limits;
mod request;
mod store;
mod tls;
mod verify;

pub use authority::{Authority, AuthorityError, CaFiles, SignRefused};
pub use credentials::{Credentials, CredentialsError};
pub use epoch::Epoch;
pub use issue::{IssueError, IssuedPem, Issuer};
pub use request::{CertificateRequest, RequestError};
pub use store::{
    Certificates, Dump, DumpedCertificate, GetError, Observer, Phase, Renewal, RestoreError,
    Settings, Silent,
};
pub use tls::{ClientTls, ServerTls, TlsError, TlsSettings};
pub use verify::{PeerError, explain, verify_peer};

/// A future in a box, for traits that are used as objects.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
