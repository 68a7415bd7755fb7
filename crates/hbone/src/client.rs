//! The client side: make a tunnel, open streams on it.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tulle_identity::ClientTls;
use tulle_identity::channel;
use tulle_model::Identity;

use crate::stream::{Answer, Fate, StreamState};
use crate::tunnel::{Core, Role};
use crate::{Connect, Error, OpenError, Settings, Stream};

/// Makes a tunnel on a connected socket: TLS (the peer must be one of `expected`), then HTTP/2. Must be called on a worker
/// (a `LocalSet`): the tunnel's driver becomes a task of it. The peer's preface is not waited for, only watched.
///
/// # Errors
/// When TLS fails or takes longer than `settings.tls_deadline`.
pub async fn connect(
    tcp: TcpStream,
    tls: &ClientTls,
    expected: Arc<[Identity]>,
    settings: &Settings,
) -> Result<Tunnel, Error> {
    let handshake = channel::client(&tcp, tls, &expected);
    let established = tokio::time::timeout(settings.tls_deadline, handshake)
        .await
        .map_err(|_| Error::Deadline {
            stage: "the TLS handshake",
            after: settings.tls_deadline,
        })??;
    let core = Core::start(tcp, established, Role::Client, settings)?;
    Ok(Tunnel::new(core))
}

/// A tunnel to one peer; clones are the same tunnel. It belongs to the worker that made it. When the last clone is dropped,
/// it is retired.
#[derive(Clone)]
pub struct Tunnel(Rc<Owned>);

struct Owned(Rc<Core>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// An answered CONNECT.
pub struct Opened {
    /// The bytes.
    pub stream: Stream,
    /// `baggage` of the answer: who the destination is.
    pub baggage: Option<String>,
}

impl Tunnel {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self(Rc::new(Owned(core)))
    }

    fn core(&self) -> &Rc<Core> {
        &self.0.0
    }

    /// Asks for a connection and waits for the answer.
    ///
    /// # Errors
    /// When the peer refuses, resets, does not answer in time, or the tunnel is lost.
    pub async fn open(&self, request: &Connect) -> Result<Opened, OpenError> {
        self.open_or_unprocessed(request, None)
            .await
            .map_err(|failed| failed.error)
    }

    /// The same; a failure says whether the peer surely did nothing about the request. What `app` has to say meanwhile follows the
    /// request at once.
    pub(crate) async fn open_or_unprocessed(
        &self,
        request: &Connect,
        app: Option<&TcpStream>,
    ) -> Result<Opened, OpenFailed> {
        let block = request
            .encode()
            .map_err(|what| OpenFailed::from(OpenError::Invalid(what)))?;
        let stream = self.core().request(&block).map_err(|error| OpenFailed {
            error,
            unprocessed: true,
        })?;
        let deadline = self.core().settings.answer_deadline;
        let state = &stream.state;
        let answer = poll_fn(|cx| {
            let answer = poll_answer(state, cx);
            if let (Poll::Pending, 0, Some(app)) = (&answer, state.early.get(), app) {
                self.core().send_early(state, app, cx);
            }
            answer
        });
        let answer = tokio::time::timeout(deadline, answer)
            .await
            .unwrap_or_else(|_| Err(OpenError::Deadline(deadline).into()))
            .map_err(|failed| failed.after(state.early.get()))?;
        match answer.status {
            200 => Ok(Opened {
                stream,
                baggage: answer.baggage,
            }),
            status => Err(OpenError::Refused { status }.into()),
        }
    }

    /// Whether new streams may be opened now.
    pub fn usable(&self) -> bool {
        self.core().is_usable()
    }

    /// Whether the peer takes another stream now.
    pub(crate) fn has_room(&self) -> bool {
        self.usable() && self.streams() < self.core().peer_max_streams()
    }

    /// Whether the tunnel is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.core().is_closed()
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.core().streams()
    }

    /// Who the peer proved to be.
    pub fn peer(&self) -> &Identity {
        &self.core().peer
    }

    /// No new streams; the tunnel closes when the last one ends.
    pub fn retire(&self) {
        self.core().retire();
    }

    /// Resolves when the tunnel is gone, with the reason.
    pub async fn closed(&self) -> Error {
        poll_fn(|cx| self.core().poll_closed(cx)).await
    }
}

/// A failed CONNECT.
pub(crate) struct OpenFailed {
    pub(crate) error: OpenError,
    /// The peer surely did nothing about it, or died before it answered: nothing was exchanged, another tunnel may be tried.
    pub(crate) unprocessed: bool,
}

impl From<OpenError> for OpenFailed {
    fn from(error: OpenError) -> Self {
        Self {
            error,
            unprocessed: false,
        }
    }
}

impl OpenFailed {
    /// The same after so many bytes of the application had gone.
    fn after(self, early: usize) -> Self {
        if early == 0 || self.unprocessed {
            return self;
        }
        OpenError::Unsure(Box::new(self.error)).into()
    }
}

fn poll_answer(state: &StreamState, cx: &Context<'_>) -> Poll<Result<Answer, OpenFailed>> {
    if let Some(answer) = state.answer.borrow_mut().take() {
        return Poll::Ready(Ok(answer));
    }
    match state.fate() {
        None => {
            state.register(cx);
            Poll::Pending
        }
        Some(Fate::Reset(code)) => Poll::Ready(Err(OpenFailed {
            error: OpenError::Reset { code },
            unprocessed: code == crate::frame::code::REFUSED_STREAM,
        })),
        Some(Fate::Tunnel(error)) => Poll::Ready(Err(OpenError::Tunnel(error).into())),
        Some(Fate::Unprocessed(error)) => Poll::Ready(Err(OpenFailed {
            error: OpenError::Tunnel(error),
            unprocessed: true,
        })),
    }
}
