//! Bounds of this crate.

/// Compiled size of one regular expression of a user.
pub(crate) const REGEX_BYTES: usize = 256 * 1024;
/// What the lazy automaton of one regular expression may cache, per thread that uses it.
pub(crate) const REGEX_CACHE_BYTES: usize = 64 * 1024;
/// Below this many shared regular expressions a sweep is not worth it.
pub(crate) const REGEX_SWEEP_MINIMUM: usize = 256;

/// Below this many shared texts, or lists of backends, a sweep is not worth it.
pub(crate) const SHARED_SWEEP_MINIMUM: usize = 1024;

/// Longest host name (RFC 1035).
pub(crate) const HOST_BYTES: usize = 253;
/// Longest method; the longest one registered has 17 characters.
pub(crate) const METHOD_BYTES: usize = 32;

/// A host with more matches than this is indexed by path; fewer are faster to walk.
pub(crate) const WALKED_MATCHES: usize = 16;

/// Parameters of a query that are looked at.
pub(crate) const QUERY_PARAMETERS: usize = 256;

/// Attempts after the first one, whatever the route says.
pub(crate) const RETRIES: u32 = 10;

/// Draws before a choice among endpoints is made by walking all of them.
pub(crate) const DRAWS: usize = 8;
/// Points on a hash ring.
pub(crate) const RING_POINTS: usize = 1 << 20;
/// Entries of a Maglev table; a prime, as Istio's largest.
pub(crate) const MAGLEV_ENTRIES: u64 = 5_000_011;
/// Steps from an endpoint that is left out to the next one.
pub(crate) const PROBES: usize = 64;
/// Longest ejection (Envoy's default).
pub(crate) const EJECTION_SECONDS: u64 = 300;

/// Keys of one rate limit that are remembered at once, if its author does not say.
pub(crate) const RATE_KEYS: usize = 65_536;
/// Most keys of one rate limit, whatever its author says.
pub(crate) const RATE_KEYS_MAX: usize = 1 << 20;
/// Shards of a table of keys: workers rarely meet.
pub(crate) const RATE_SHARDS: usize = 16;
/// Keys of one set of such a table: one of them is forgotten when all are needed.
pub(crate) const RATE_WAYS: usize = 8;
/// Keys of one shard that are told to other replicas in one exchange.
pub(crate) const RATE_NOTED: usize = 4096;
