//! After the start: memory that only the start needed goes back.

use crate::limits::SETTLED;

/// Waits until the start is over, then gives back the program text that it used. Small nodes have many proxies.
pub async fn settle() {
    tokio::time::sleep(SETTLED).await;
    release_text();
}

/// Failing costs memory, nothing else.
pub(crate) fn release_text() {
    if let Err(error) = tulle_linux::process::release_text() {
        tracing::debug!(%error, "program text stays in memory");
    }
}
