//! Memory that is needed for a moment only goes back: small nodes have proxies too.

use crate::limits::{RELEASE_INTERVAL, SETTLED};

/// Waits until the start is over, and from then on, from time to time, gives back what was freed, and the pages of the program's
/// file: what is in use comes back from the page cache at once, what a handshake or an admin page needed does not. Never ends.
pub async fn settle() {
    tokio::time::sleep(SETTLED).await;
    loop {
        release_files();
        tulle_linux::process::release_heap();
        tokio::time::sleep(RELEASE_INTERVAL).await;
    }
}

/// Failing costs memory, nothing else.
pub(crate) fn release_files() {
    if let Err(error) = tulle_linux::process::release_files() {
        tracing::debug!(%error, "pages of files stay in memory");
    }
}
