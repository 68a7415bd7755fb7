//! WebSocket (RFC 6455), as far as an echo needs it: whole messages come back as they came.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::grpc::Body;
use crate::limits::MAX_MESSAGE;

/// Said by both sides (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE: u8 = 8;

/// Answers a request for WebSocket, and echoes from then on; `None` for other requests.
pub(crate) fn accept(request: &mut hyper::Request<Incoming>) -> Option<Response<Body>> {
    let key = key(request.headers())?;
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(echo(upgraded));
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    Some(response)
}

/// What answers the client's key.
fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let asked = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    let digest = Sha1::digest(format!("{asked}{GUID}").as_bytes());
    HeaderValue::from_str(&base64(&digest)).ok()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0u32, |sum, at| {
            sum << 8 | u32::from(chunk.get(at).copied().unwrap_or_default())
        });
        for at in 0..4 {
            let six = (group >> (18 - 6 * at)) & 63;
            text.push(match at <= chunk.len() {
                true => char::from(LETTERS[six as usize]),
                false => '=',
            });
        }
    }
    text
}

async fn echo(upgraded: OnUpgrade) {
    // A client that breaks off, or speaks something else, has no use for an answer.
    if let Ok(upgraded) = upgraded.await {
        let _ = messages(TokioIo::new(upgraded)).await;
    }
}

async fn messages(mut io: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    loop {
        let [first, second] = [io.read_u8().await?, io.read_u8().await?];
        let length = match second & 0x7f {
            126 => usize::from(io.read_u16().await?),
            127 => usize::try_from(io.read_u64().await?).unwrap_or(usize::MAX),
            short => usize::from(short),
        };
        // Clients mask what they send (section 5.3).
        if length > MAX_MESSAGE || second & 0x80 == 0 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut mask = [0; 4];
        io.read_exact(&mut mask).await?;
        let mut content = vec![0; length];
        io.read_exact(&mut content).await?;
        for (at, byte) in content.iter_mut().enumerate() {
            *byte ^= mask[at % 4];
        }
        let mut frame = vec![first];
        match u16::try_from(length) {
            Ok(short @ 0..=125) => frame.extend(short.to_be_bytes().get(1)),
            Ok(middle) => {
                frame.push(126);
                frame.extend(middle.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(content);
        io.write_all(&frame).await?;
        if first & 0x0f == CLOSE {
            return io.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_standard_is_answered_as_the_standard_says() {
        let mut headers = HeaderMap::new();
        headers.insert("upgrade", HeaderValue::from_static("WebSocket"));
        headers.insert(
            "sec-websocket-key",
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        let expected = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key(&headers), Some(expected));
    }
}
