//! Decisions about one request, as pure functions. Whoever asks draws the dice and reads the clock.

mod cors;
mod edits;
mod fault;
mod redirect;
mod retry;
mod rewrite;
mod split;
mod timeout;

pub use cors::{CompiledCors, CorsDecision, CorsRequest, cors};
pub use fault::FaultDecision;
pub use redirect::redirect;
pub use retry::{Again, Attempted, Failure, default_retry, retry};
pub use rewrite::rewrite_path;
pub use split::{mirrors, split};
pub use timeout::{Deadlines, deadlines, grpc_timeout};
