//! SOCK_SEQPACKET over Unix sockets with file descriptors, on tokio.
//!
//! One message is one datagram; descriptors travel with it. This is what the node agent and the node proxy speak, and
//! what a worker speaks with the process that keeps its sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::limits::{DESCRIPTORS_PER_MESSAGE, SEQPACKET_QUEUE};

/// Who is at the other end, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id, in our PID namespace; 0 when it is not visible there.
    pub pid: u32,
    /// Effective user at connect time.
    pub uid: u32,
    /// Effective group at connect time.
    pub gid: u32,
}

/// A listening SOCK_SEQPACKET socket.
#[derive(Debug)]
pub struct SeqListener {
    socket: AsyncFd<OwnedFd>,
}

/// One end of a SOCK_SEQPACKET connection.
#[derive(Debug)]
pub struct SeqStream {
    socket: AsyncFd<OwnedFd>,
}

impl SeqListener {
    /// Listens at `path` with access `mode` (such as 0o600); what is left there from before is replaced.
    ///
    /// # Errors
    /// When the directory is missing or not writable, or `path` is longer than 107 bytes. Needs a tokio runtime.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = seqpacket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Nobody can connect before listen, so the mode is in force in time.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        rustix::net::listen(&socket, SEQPACKET_QUEUE)?;
        Ok(Self {
            socket: register(socket)?,
        })
    }

    /// The next connection.
    ///
    /// # Errors
    /// As of accept(2); running out of descriptors is not fatal to the listener.
    pub async fn accept(&self) -> io::Result<SeqStream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = self
            .socket
            .async_io(Interest::READABLE, |s| {
                Ok(rustix::net::accept_with(s, flags)?)
            })
            .await?;
        SeqStream::from_fd(accepted)
    }
}

impl SeqStream {
    /// Connects to the listener at `path`.
    ///
    /// # Errors
    /// `NotFound` or `ConnectionRefused` when nobody listens there. Needs a tokio runtime.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = seqpacket()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Self::from_fd(socket)
    }

    /// Takes a connected SOCK_SEQPACKET socket, for example an inherited one; makes it non-blocking.
    ///
    /// # Errors
    /// Without a tokio runtime, or when it is not a socket.
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket: register(socket)?,
        })
    }

    /// Sends one message with descriptors; the whole of it or nothing.
    ///
    /// # Errors
    /// `BrokenPipe` when the peer is gone; `InvalidInput` when there are too many descriptors.
    pub async fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.socket
            .async_io(Interest::WRITABLE, |s| send(s, message, fds))
            .await
    }

    /// Receives one message into `buffer`; returns its length and its descriptors. Length 0 is the end of the connection.
    ///
    /// # Errors
    /// `InvalidData` when the message is longer than `buffer` or carries more descriptors than we take.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.socket
            .async_io(Interest::READABLE, |s| recv(s, buffer))
            .await
    }

    /// Who connected, as the kernel recorded it.
    ///
    /// # Errors
    /// When the socket is not connected.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        peer_credentials(self.socket.get_ref())
    }

    /// Gives the socket back, still non-blocking.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into_inner()
    }
}

impl AsFd for SeqStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

/// Who is at the other end of any connected Unix socket.
///
/// # Errors
/// When it is not one.
pub fn peer_credentials(socket: &impl AsFd) -> io::Result<PeerCredentials> {
    // SO_PEERCRED reports pid 0 for a peer outside our PID namespace, which rustix's non-zero pid cannot hold.
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to live values, and `length` says how large `peer` is.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerCredentials {
        pid: u32::try_from(peer.pid).unwrap_or(0),
        uid: peer.uid,
        gid: peer.gid,
    })
}

/// Two connected blocking ends without a runtime: for a process and the worker that it starts. Both close on exec.
///
/// # Errors
/// When descriptors are short.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message with descriptors on a socket without a runtime; blocks if the socket does.
///
/// # Errors
/// As [`SeqStream::send`].
pub fn send(socket: &impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > DESCRIPTORS_PER_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors for one message",
        ));
    }
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other(
            "the control buffer is too small for the descriptors",
        ));
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(message)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == message.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives one message on a socket without a runtime; blocks if the socket does. Length 0 is the end.
///
/// # Errors
/// As [`SeqStream::recv`].
pub fn recv(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the message is longer than agreed",
        ));
    }
    Ok((got.bytes, fds))
}

fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and the same file for as long as it lives, and AsyncFd owns it.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

fn seqpacket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

#[cfg(test)]
mod tests;
