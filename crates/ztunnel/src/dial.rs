//! Opening connections inside a pod's network namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::{TcpSocket, TcpStream};
use tulle_linux::{NetNs, socket};

use crate::error::Failure;
use crate::limits::{DIAL_DEADLINE, REFUSAL_PAUSE};

/// Connects to `to` from inside `netns`, within [`DIAL_DEADLINE`]; with `from`, the peer sees that address as the source.
pub(crate) async fn dial(
    netns: &NetNs,
    to: SocketAddr,
    from: Option<IpAddr>,
    mark: u32,
    hint: &'static str,
) -> Result<TcpStream, Failure> {
    let failed = |error: io::Error| Failure::Dial {
        to,
        error: Arc::new(error),
    };
    let fd: OwnedFd = socket::dial_socket(netns, to.ip(), from, mark).map_err(failed)?;
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(fd));
    match tokio::time::timeout(DIAL_DEADLINE, socket.connect(to)).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(Failure::DialTimeout {
            to,
            after: DIAL_DEADLINE,
            hint,
        }),
    }
}

/// Refuses a connection that the kernel has already taken for its application: RST, but only once the application has said
/// something, or has had the time to see that it is connected. Otherwise it may learn of the reset while it still connects,
/// and say that nobody listens there.
pub(crate) async fn refuse(stream: TcpStream) {
    let _ = tokio::time::timeout(REFUSAL_PAUSE, stream.readable()).await;
    reset(stream);
}

/// Closes with RST, so that the client learns of the failure and does not take it for an orderly end.
pub(crate) fn reset(stream: TcpStream) {
    // A socket that is gone already needs no RST.
    let _ = socket::reset_on_close(&stream);
    drop(stream);
}
