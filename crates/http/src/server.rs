//! Serves one connection: HTTP/1.1, HTTP/1.0 or HTTP/2, whichever the client begins with.

mod http1;
mod http2;
mod sniff;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{CONNECTION, HeaderValue, UPGRADE};
use ::http::request::Parts;
use ::http::{HeaderMap, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError, Frame};
use crate::gate::{Clocks, Control};
use crate::io::{BoxIo, Io};
use crate::rules::head::hop_by_hop;
use crate::rules::{Limits, Refusal, head};
use crate::upgrade::{self, Upgrade};
use crate::{grpc, limits};

/// A request that kept the rules: its URI is path and query only, its authority is in `Host`, what was for one hop is taken off.
#[derive(Debug)]
pub struct Request {
    /// Everything but the body.
    pub head: Parts,
    /// The body.
    pub body: Body,
    /// What the client wants to speak instead. If this is answered with anything but 101, the connection goes on as it was.
    pub upgrade: Option<Upgrade>,
}

/// How connections are served.
#[derive(Clone)]
pub struct Settings {
    /// What is spoken.
    pub protocol: Spoken,
    /// How large heads may be.
    pub limits: Limits,
    /// From the first byte of a head to its end.
    pub head_deadline: Duration,
    /// A connection without a request.
    pub idle: Duration,
    /// A body that does not go on, or a client that does not take its answer. gRPC streams may be silent for longer.
    pub stall: Duration,
    /// Concurrent streams of an HTTP/2 connection.
    pub max_streams: u32,
    /// Receive window of an HTTP/2 stream.
    pub stream_window: u32,
    /// Receive window of an HTTP/2 connection.
    pub connection_window: u32,
    /// Silence after which an HTTP/2 client is asked whether it is still there.
    pub ping: Option<Duration>,
    /// How long an idle HTTP/1 connection is kept when the server drains; those that are used meanwhile close after the answer.
    pub drain_idle: Duration,
    /// Hears of requests that broke a rule and never came to the handler.
    pub refused: Option<Refused>,
}

/// Hears of a refusal.
pub type Refused = Rc<dyn Fn(&Refusal)>;

/// What a client may speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoken {
    /// The client decides by how it begins.
    #[default]
    Any,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only, as ALPN said.
    Http2,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocol: Spoken::Any,
            limits: Limits::default(),
            head_deadline: limits::HEAD_DEADLINE,
            idle: limits::IDLE,
            stall: limits::STALL,
            max_streams: limits::SERVER_STREAMS,
            stream_window: limits::STREAM_WINDOW,
            connection_window: limits::CONNECTION_WINDOW,
            ping: None,
            drain_idle: Duration::from_secs(5),
            refused: None,
        }
    }
}

impl Settings {
    fn clocks(&self) -> Clocks {
        Clocks {
            head: self.head_deadline,
            idle: self.idle,
            stall: self.stall,
        }
    }
}

/// Why a connection ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client's connection.
    #[error("the client's connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The client broke a rule; it was told.
    #[error("the client broke a rule: {0}")]
    Refused(#[from] Refusal),
    /// The client broke the protocol, or left in the middle.
    #[error("the connection ended early: {0}")]
    Protocol(#[from] hyper::Error),
}

/// Serves a connection until it ends. When `stop` resolves, it is drained: HTTP/2 clients get GOAWAY, HTTP/1 clients
/// `Connection: close` with the next answer; requests under way are finished. Dropping the future cuts it.
///
/// # Errors
/// When the client broke the protocol, or left without saying goodbye. Handlers under way are dropped then.
pub async fn serve<I, H>(
    io: I,
    settings: &Settings,
    stop: impl Future<Output = ()>,
    handler: H,
) -> Result<(), ServeError>
where
    I: Io + 'static,
    H: AsyncFn(Request) -> Response<Body> + 'static,
{
    let mut io = io;
    let mut stop = Stop::new(stop, settings.drain_idle);
    let Some((version, held)) = sniff::first_bytes(&mut io, settings, &mut stop).await? else {
        return Ok(());
    };
    let exchange = Exchange {
        control: Rc::default(),
        settings: Rc::new(settings.clone()),
        handler: Rc::new(handler),
        upgrading: Rc::default(),
    };
    match version {
        Version::HTTP_2 => http2::serve(io, held, exchange, stop).await,
        _ => http1::serve(io, held, exchange, stop).await,
    }
}

/// The end that the owner asks for: first politely, then after the idle time.
struct Stop<S> {
    stop: Pin<Box<S>>,
    drain_idle: Duration,
    grace: Option<Pin<Box<Sleep>>>,
    begun: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining,
    /// Idle connections close now.
    Closing,
}

impl<S: Future<Output = ()>> Stop<S> {
    fn new(stop: S, drain_idle: Duration) -> Self {
        Self {
            stop: Box::pin(stop),
            drain_idle,
            grace: None,
            begun: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Stage {
        if !self.begun {
            if self.stop.as_mut().poll(cx).is_pending() {
                return Stage::Serving;
            }
            self.begun = true;
            let until = Instant::now() + self.drain_idle;
            self.grace = Some(Box::pin(tokio::time::sleep_until(until)));
        }
        if let Some(grace) = &mut self.grace
            && grace.as_mut().poll(cx).is_pending()
        {
            return Stage::Draining;
        }
        self.grace = None;
        Stage::Closing
    }
}

/// What all requests of a connection have in common.
struct Exchange<H> {
    control: Rc<Control>,
    settings: Rc<Settings>,
    handler: Rc<H>,
    /// The upgrade of an HTTP/1 connection that is offered.
    upgrading: Rc<Cell<Option<Upgrading>>>,
}

impl<H> Clone for Exchange<H> {
    fn clone(&self) -> Self {
        Self {
            control: Rc::clone(&self.control),
            settings: Rc::clone(&self.settings),
            handler: Rc::clone(&self.handler),
            upgrading: Rc::clone(&self.upgrading),
        }
    }
}

/// What is offered, and who waits for the bytes.
struct Upgrading {
    protocol: String,
    waiting: oneshot::Sender<BoxIo>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

impl<H> hyper::service::Service<::http::Request<Incoming>> for Exchange<H>
where
    H: AsyncFn(Request) -> Response<Body> + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: ::http::Request<Incoming>) -> Answering {
        let http2 = request.version() == Version::HTTP_2;
        if http2 {
            self.control.begin();
        }
        let in_flight = InFlight(Rc::clone(&self.control));
        let (head, incoming) = request.into_parts();
        let (body, rest) = if http2 {
            Body::asked(incoming)
        } else {
            (Body::incoming(incoming), None)
        };
        let asked = self.asked(head, body);
        let this = self.clone();
        Box::pin(async move {
            let (response, extended) = match asked {
                Ok(request) => {
                    let extended = http2 && request.upgrade.is_some();
                    ((this.handler)(request).await, extended)
                }
                Err(refusal) => {
                    if let Some(refused) = &this.settings.refused {
                        refused(&refusal);
                    }
                    (refusal.response(), false)
                }
            };
            if let Some(rest) = rest {
                rest.is_read().await;
            }
            Ok(this.answered(response, http2, extended, in_flight))
        })
    }
}

impl<H> Exchange<H> {
    /// The request as the handler sees it.
    fn asked(&self, mut head: Parts, body: Body) -> Result<Request, Refusal> {
        let extended = head.extensions.remove::<hyper::ext::Protocol>();
        let on_upgrade = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let extended = extended.as_ref().map(hyper::ext::Protocol::as_str);
        head::judge(&mut head, extended, &self.settings.limits)?;
        let upgrade = match (extended, on_upgrade) {
            (Some(protocol), Some(on)) => Some(Upgrade::http2(protocol, on)),
            (None, _) => self.asked_to_upgrade(&head),
            _ => None,
        };
        hop_by_hop(&mut head.headers)?;
        if extended.is_some() {
            upgrade::request_from_http2(&mut head);
        }
        let body = if grpc::is_grpc(&head.headers) {
            body
        } else {
            body.stalling(self.settings.stall)
        };
        Ok(Request {
            head,
            body,
            upgrade,
        })
    }

    fn asked_to_upgrade(&self, head: &Parts) -> Option<Upgrade> {
        if !self.control.takes_upgrade() {
            return None;
        }
        let Some(protocol) = upgrade::asked(&head.headers) else {
            self.control.decide(false);
            return None;
        };
        let (upgrade, waiting) = Upgrade::http1(&protocol);
        self.upgrading.set(Some(Upgrading { protocol, waiting }));
        Some(upgrade)
    }

    /// The response as the client gets it.
    fn answered(
        &self,
        mut response: Response<Body>,
        http2: bool,
        extended: bool,
        in_flight: InFlight,
    ) -> Response<Body> {
        let offered = extended || self.control.takes_upgrade();
        let mut switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        // To an extended CONNECT, any success would be a yes.
        let wrong = if switches {
            !offered
        } else {
            extended && response.status().is_success()
        };
        if wrong {
            tracing::warn!(target: "http", status = %response.status(), "an answer does not fit what the client asked to become; answering 502");
            response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            switches = false;
        }
        if http2 {
            if switches {
                upgrade::response_to_http2(&mut response);
            }
            response.headers_mut().remove(CONNECTION);
            response.headers_mut().remove(UPGRADE);
        } else {
            self.control.decide(switches);
            let headers = response.headers_mut();
            if switches {
                self.say_upgrade(headers);
            } else {
                self.upgrading.set(None);
                if self.control.draining.get() {
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
        }
        response.map(|body| {
            if body.is_end() {
                // Nothing of it will be asked for.
                return body;
            }
            Body::from_body(Answer {
                body,
                _in_flight: in_flight,
            })
        })
    }
}

impl<H> Exchange<H> {
    /// The headers of a 101, which are for one hop.
    fn say_upgrade(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let upgrading = self.upgrading.take();
        if let Some(upgrading) = &upgrading
            && !headers.contains_key(UPGRADE)
            && let Ok(protocol) = HeaderValue::from_str(&upgrading.protocol)
        {
            headers.insert(UPGRADE, protocol);
        }
        self.upgrading.set(upgrading);
    }
}

/// A request that is not through.
struct InFlight(Rc<Control>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The body of an answer; when it is dropped, the request is through.
struct Answer {
    body: Body,
    _in_flight: InFlight,
}

impl hyper::body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
