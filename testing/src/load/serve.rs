//! The answering side.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a server-first port says.
pub const GREETING: &[u8] = b"220 load ready\r\n";

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
    if stream.read(&mut first).await? == 0 {
        return Ok(());
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
