//! A destination's limits, as pools of connections count against them.

use std::sync::Arc;

use tulle_http::upstream::{Full, Held, Limits};
use tulle_route::balance::{Breaker, Use};
use tulle_route::resource::CircuitBreaker;

#[derive(Debug)]
struct Limited(Arc<Breaker>);

/// `None` where connections are not limited: then nobody counts them.
pub(super) fn limits(
    breaker: &Arc<Breaker>,
    settings: Option<CircuitBreaker>,
) -> Option<Arc<dyn Limits>> {
    let settings = settings?;
    let limited = settings.max_connections.is_some() || settings.max_pending_requests.is_some();
    limited.then(|| -> Arc<dyn Limits> { Arc::new(Limited(breaker.clone())) })
}

impl Limited {
    fn enter(&self, kind: Use) -> Result<Held, Full> {
        match self.0.enter(kind) {
            Ok(permit) => Ok(Box::new(permit)),
            Err(refused) => Err(Full(refused.to_string().into())),
        }
    }
}

impl Limits for Limited {
    fn connection(&self) -> Result<Held, Full> {
        self.enter(Use::Connection)
    }

    fn waiting(&self) -> Result<Held, Full> {
        self.enter(Use::Pending)
    }
}
