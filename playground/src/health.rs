//! The smallest HTTP client that can ask "are you well?".

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::limits;

/// Fails unless `http://address:port/path` answers 200.
pub(crate) fn get(address: Ipv4Addr, port: u16, path: &str) -> Result<()> {
    let address = SocketAddr::from((address, port));
    let mut stream = TcpStream::connect_timeout(&address, limits::HEALTH_REQUEST)
        .with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limits::HEALTH_REQUEST))?;
    stream.set_write_timeout(Some(limits::HEALTH_REQUEST))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")
        .with_context(|| format!("asking {address}{path}"))?;
    let mut answer = Vec::new();
    stream
        .take(limits::HEALTH_ANSWER as u64)
        .read_to_end(&mut answer)
        .with_context(|| format!("reading the answer of {address}{path}"))?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split_ascii_whitespace().nth(1);
    if status == Some("200") {
        return Ok(());
    }
    ensure!(status.is_some(), "{address}{path} does not speak HTTP");
    bail!(
        "{address}{path} answers {}",
        text.lines().next().unwrap_or_default()
    );
}

/// Fails unless something listens.
pub(crate) fn listens(address: Ipv4Addr, port: u16) -> Result<()> {
    let address = SocketAddr::from((address, port));
    TcpStream::connect_timeout(&address, limits::HEALTH_REQUEST)
        .map(drop)
        .with_context(|| format!("connecting to {address}"))
}
