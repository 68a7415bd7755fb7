//! Memory that is needed for a moment only goes back: small nodes have proxies too.

use crate::limits::{HEAP_INTERVAL, SETTLED};

/// Waits until the start is over, gives back the program text that it used, and from then on, from time to time, what was freed.
/// Never ends.
pub async fn settle() {
    tokio::time::sleep(SETTLED).await;
    release_text();
    loop {
        tulle_linux::process::release_heap();
        tokio::time::sleep(HEAP_INTERVAL).await;
    }
}

/// Failing costs memory, nothing else.
pub(crate) fn release_text() {
    if let Err(error) = tulle_linux::process::release_text() {
        tracing::debug!(%error, "program text stays in memory");
    }
}
