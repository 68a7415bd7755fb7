//! Sockets inside a pod's network namespace, with the options that redirection needs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::NetNs;
use crate::limits::{ACCEPT_QUEUE, KEEPALIVE, KEEPALIVE_PROBES};

/// Opens a non-blocking listener in `ns`: SO_REUSEPORT (each worker has its own), transparent, NODELAY inherited by
/// what it accepts, the longest queue that the namespace allows. `[::]` serves both families and becomes `0.0.0.0`
/// where the kernel has no IPv6.
///
/// # Errors
/// `AddrInUse` when the application already listens there without SO_REUSEPORT.
pub fn listen(ns: &NetNs, addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    match listen_on(ns, addr) {
        Err(error) if addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && without_ipv6(&error) => {
            listen_on(
                ns,
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()),
            )
        }
        outcome => outcome,
    }
}

/// Opens an unconnected, non-blocking TCP socket in `ns`, marked so that the redirect rules leave it alone, with
/// NODELAY and keepalive. With `from`, it is bound to that address although it is not local (the client's address on
/// the leg to the application). The caller connects it.
///
/// # Errors
/// Without CAP_NET_ADMIN, or when `from` and `to` are of different families.
pub fn dial_socket(ns: &NetNs, to: IpAddr, from: Option<IpAddr>, mark: u32) -> io::Result<OwnedFd> {
    let domain = if to.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = ns.enter(|| tcp(domain))??;
    socket.set_tcp_nodelay(true)?;
    keepalive(&socket)?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    if let Some(from) = from {
        transparent(&socket, domain)?;
        // Choose the port at connect: the same client may have many connections to different places.
        bind_address_no_port(&socket)?;
        socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
    }
    Ok(socket.into())
}

/// Opens a non-blocking UDP socket in `ns` that receives at `addr`. SO_REUSEPORT, so that two processes may serve a pod for a
/// moment.
///
/// # Errors
/// `AddrInUse` when the application already has that port.
pub fn udp_listen(ns: &NetNs, addr: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = ns.enter(|| udp(Domain::for_address(addr)))??;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket.into())
}

/// Opens a non-blocking UDP socket in `ns` that is connected to `to`, marked so that the redirect rules leave it alone.
///
/// # Errors
/// Without CAP_NET_ADMIN, or when there is no route.
pub fn udp_dial(ns: &NetNs, to: SocketAddr, mark: u32) -> io::Result<std::net::UdpSocket> {
    let socket = ns.enter(|| udp(Domain::for_address(to)))??;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    socket.connect(&SockAddr::from(to))?;
    Ok(socket.into())
}

/// Where a redirected connection was going: SO_ORIGINAL_DST of either family (mapped IPv4 addresses as IPv4), or the
/// local address when nothing redirected it.
///
/// # Errors
/// When the socket is not connected.
pub fn original_destination(s: &impl AsFd) -> io::Result<SocketAddr> {
    let socket = SockRef::from(s);
    // A v6 listener that serves both families must be asked by the family of the connection.
    let local = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let canonical = unmap(local);
    let original = if canonical.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    Ok(original
        .ok()
        .and_then(|a| a.as_socket())
        .map_or(canonical, unmap))
}

/// Makes closing send RST instead of FIN (SO_LINGER 0): a refused connection must not look like an orderly end.
///
/// # Errors
/// When the descriptor is not a socket.
pub fn reset_on_close(s: &impl AsFd) -> io::Result<()> {
    SockRef::from(s).set_linger(Some(Duration::ZERO))
}

/// Keepalive of 180 s, 180 s, 9 probes, for accepted sockets; [`dial_socket`] sets it itself.
///
/// # Errors
/// When the descriptor is not a TCP socket.
pub fn set_keepalive(s: &impl AsFd) -> io::Result<()> {
    keepalive(&SockRef::from(s))
}

/// The CPU that last processed a packet of this socket (SO_INCOMING_CPU).
///
/// # Errors
/// When the descriptor is not a socket.
pub fn incoming_cpu(s: &impl AsFd) -> io::Result<usize> {
    SockRef::from(s).cpu_affinity()
}

/// Makes a listener preferred, among those of its SO_REUSEPORT group, for packets that this CPU processes.
///
/// # Errors
/// When the descriptor is not a socket.
pub fn set_incoming_cpu(s: &impl AsFd, cpu: usize) -> io::Result<()> {
    SockRef::from(s).set_cpu_affinity(cpu)
}

/// `::ffff:a.b.c.d` as `a.b.c.d`; others unchanged.
#[must_use]
pub fn unmap(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn listen_on(ns: &NetNs, addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = Domain::for_address(addr);
    let socket = ns.enter(|| tcp(domain))??;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    // Needed only where rules use TPROXY; without the capability the REDIRECT rules still work.
    let _best_effort = transparent(&socket, domain);
    socket.bind(&SockAddr::from(addr))?;
    socket.listen(ACCEPT_QUEUE)?;
    Ok(socket.into())
}

fn tcp(domain: Domain) -> io::Result<Socket> {
    Socket::new_raw(
        domain,
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )
}

fn udp(domain: Domain) -> io::Result<Socket> {
    Socket::new_raw(
        domain,
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )
}

fn transparent(socket: &Socket, domain: Domain) -> io::Result<()> {
    if domain == Domain::IPV4 {
        socket.set_ip_transparent_v4(true)?;
        return socket.set_freebind_v4(true);
    }
    set_option(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT)?;
    // A dual-stack socket takes IPv4 connections too.
    if !socket.only_v6()? {
        socket.set_ip_transparent_v4(true)?;
    }
    socket.set_freebind_v6(true)
}

fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

/// Sets an integer option to 1 that `socket2` has no name for.
fn set_option(socket: &Socket, level: i32, name: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let one: libc::c_int = 1;
    // SAFETY: the pointer is to a live c_int and the length is its size.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn keepalive(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE)
            .with_retries(KEEPALIVE_PROBES),
    )
}

fn without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}
