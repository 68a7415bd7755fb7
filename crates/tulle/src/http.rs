//! One request to an admin page inside a pod, through the API server's port-forwarding.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tulle_api::k8s_openapi;
use tulle_cluster::{Api, Client};

use crate::limits::{ADMIN_DEADLINE, MAX_ADMIN_ANSWER};

/// Asks `method path` of `port` in the pod, which may listen on loopback only. The body of a 200 answer.
pub(crate) async fn ask_pod(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
    method: &str,
    path: &str,
) -> anyhow::Result<Vec<u8>> {
    let what = || format!("cannot ask {namespace}/{pod} port {port} for {path}");
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let work = async {
        let mut forwarder = api
            .portforward(pod, &[port])
            .await
            .map_err(|error| tulle_cluster::Error::from_kube("forward a port", error))?;
        let stream = forwarder
            .take_stream(port)
            .context("the port was not forwarded")?;
        let answer = ask(stream, method, path).await;
        if answer.is_err()
            && let Some(refusal) = forwarder.take_error(port)
            && let Some(why) = tokio::time::timeout(REFUSAL, refusal).await.ok().flatten()
        {
            bail!("{why}");
        }
        answer
    };
    match tokio::time::timeout(ADMIN_DEADLINE, work).await {
        Ok(answer) => answer.with_context(what),
        Err(_) => Err(anyhow::anyhow!(
            "no answer within {} s",
            ADMIN_DEADLINE.as_secs()
        ))
        .with_context(what),
    }
}

/// How long the API server may take to say why a forwarded port failed.
const REFUSAL: std::time::Duration = std::time::Duration::from_millis(500);

/// HTTP/1.0: the answer comes in one piece and ends with the connection.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
) -> anyhow::Result<Vec<u8>> {
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = stream
        .take(MAX_ADMIN_ANSWER)
        .read_to_end(&mut answer)
        .await?;
    if read as u64 == MAX_ADMIN_ANSWER {
        bail!("the answer is larger than {MAX_ADMIN_ANSWER} bytes");
    }
    body(&answer)
}

/// The body of an HTTP answer whose status is 200.
fn body(answer: &[u8]) -> anyhow::Result<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.context("the answer is no HTTP")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let body = &answer[end + 4..];
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        let text = String::from_utf8_lossy(&body[..body.len().min(500)])
            .trim()
            .to_owned();
        bail!("it answered {status}: {text}");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) if body.len() < length => {
            bail!("the answer ended after {} of {length} bytes", body.len())
        }
        Some(length) => Ok(body[..length].to_vec()),
        None => Ok(body.to_vec()),
    }
}

#[cfg(test)]
mod tests;
