//! Every bound of this crate, each named once.

use std::time::Duration;

/// Certificates in one chain, leaf and intermediates together: longer chains are refused before any signature is checked.
pub const MAX_CHAIN: usize = 8;
/// Roots in one bundle.
pub const MAX_ROOTS: usize = 64;
/// A PEM document that we parse (chain, bundle or key), in bytes.
pub const MAX_PEM: usize = 1024 * 1024;
/// A certificate signing request, PEM, in bytes. A P-256 request takes about 400, RSA 4096 about 1700.
pub const MAX_CSR: usize = 16 * 1024;
/// Bits of an RSA key in a certificate signing request.
pub const MIN_RSA_BITS: usize = 2048;
/// The largest RSA key that we certify: verifying larger ones costs every peer too much.
pub const MAX_RSA_BITS: usize = 8192;

/// Lifetime of a workload certificate when the request names none.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longest lifetime that a request may ask for; more is refused.
pub const MAX_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// A certificate is valid a little before it is signed, so that a peer whose clock is behind accepts it.
pub const BACKDATE: Duration = Duration::from_secs(120);
/// Lifetime of a self-signed root.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// DNS names in one server certificate.
pub const MAX_DNS_NAMES: usize = 64;

/// Identities that one store holds. A node has at most some hundreds of pods.
pub const MAX_IDENTITIES: usize = 16 * 1024;
/// Certificates that are fetched at the same time.
pub const MAX_FETCHES: usize = 8;
/// How long one fetch may take.
pub const FETCH_DEADLINE: Duration = Duration::from_secs(10);
/// How long [`get`](crate::Certificates::get) waits: its place in the queue, and the fetch.
pub const GET_DEADLINE: Duration = Duration::from_secs(15);
/// First pause after a failed fetch.
pub const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause after failed fetches.
pub const BACKOFF_MAX: Duration = Duration::from_secs(150);
/// The renewal task looks at the system clock at least this often, since that clock may be stepped.
pub const CLOCK_CHECK: Duration = Duration::from_secs(30);
/// Renewal never waits less than this after a successful fetch, however short the certificate's life is.
pub const MIN_RENEWAL: Duration = Duration::from_millis(500);

/// How long a TLS handshake of a gRPC connection may take.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Certificates of one gateway listener.
pub const MAX_LISTENER_CERTIFICATES: usize = 256;
/// Roots in the system's own bundle.
pub const MAX_SYSTEM_ROOTS: usize = 1000;
/// Keys in one JSON Web Key Set.
pub const MAX_JWKS_KEYS: usize = 100;
/// A JSON Web Key Set, in bytes.
pub const MAX_JWKS: usize = 256 * 1024;
/// A token, in bytes: header limits are not larger.
pub const MAX_TOKEN: usize = 64 * 1024;
