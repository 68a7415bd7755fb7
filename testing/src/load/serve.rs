//! The answering side.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::requests;

/// What a server-first port says.
pub const GREETING: &[u8] = b"220 load ready\r\n";

/// A request that is answered in kind, and then the server closes.
pub(super) const ONCE: [u8; 64] = [b'O'; 64];

/// Serves until killed.
pub async fn serve(port: u16) -> anyhow::Result<()> {
    let answering = listen(port).await?;
    let speaking_first = listen(port + 1).await?;
    loop {
        tokio::select! {
            accepted = answering.accept() => spawn(accepted, answer),
            accepted = speaking_first.accept() => spawn(accepted, greet),
        }
    }
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let only_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    match TcpListener::bind(both).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(only_v4)
            .await
            .with_context(|| format!("listening on {port}")),
    }
}

fn spawn<F>(accepted: std::io::Result<(TcpStream, SocketAddr)>, then: fn(TcpStream) -> F)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    if let Ok((stream, _)) = accepted {
        let _ = stream.set_nodelay(true);
        // What the client sees is the outcome; there is nobody to tell on this side.
        tokio::spawn(async move { then(stream).await.ok() });
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut first = [0; 1];
    if stream.peek(&mut first).await? == 0 {
        return Ok(());
    }
    if first == *b"G" {
        return requests::answer(stream).await;
    }
    stream.read_exact(&mut first).await?;
    if first == ONCE[..1] {
        return answer_once(stream).await;
    }
    let mut buffer = vec![
        0;
        if first[0] == b'S' {
            256 << 10
        } else {
            16 << 10
        }
    ];
    if first[0] != b'S' {
        stream.write_all(&first).await?;
    }
    let mut count = 1u64;
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        count += n as u64;
        if first[0] != b'S' {
            stream.write_all(&buffer[..n]).await?;
        }
    }
    if first[0] == b'S' {
        stream.write_all(&count.to_be_bytes()).await?;
    }
    stream.shutdown().await
}

/// As an HTTP/1.0 server does: the side that ends first keeps the pair of ports for a minute (TIME_WAIT), and the server's port
/// can bear that, while a client soon has no port left.
async fn answer_once(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = ONCE;
    stream.read_exact(&mut request[1..]).await?;
    stream.write_all(&request).await?;
    stream.shutdown().await
}

async fn greet(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(GREETING).await?;
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..n]).await?;
    }
}
