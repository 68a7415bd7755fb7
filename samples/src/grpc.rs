//! gRPC, as far as an echo needs it: one message, and a status in the trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;

use crate::app::Reply;

/// Bodies of answers.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// Whether a request is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The reply's body as the one message; its status as gRPC's.
pub(crate) async fn reply(reply: Reply) -> Response<Body> {
    let (head, body) = reply.into_parts();
    let Ok(collected) = body.collect().await;
    let content = collected.to_bytes();
    let mut message = BytesMut::with_capacity(content.len() + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    message.put(content);
    let code = match head.status {
        StatusCode::OK => 0_u16,
        StatusCode::NOT_FOUND => 12,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 2,
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    let body = OneMessage(vec![
        Frame::trailers(trailers),
        Frame::data(message.freeze()),
    ]);
    let mut response = Response::new(body.boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// Frames, the last one first.
struct OneMessage(Vec<Frame<Bytes>>);

impl hyper::body::Body for OneMessage {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}
