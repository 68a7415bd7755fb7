//! The worker's side.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tulle_linux::SeqStream;

use super::protocol::{ENVIRONMENT, MESSAGE, Message};
use crate::limits::{KEPT_DESCRIPTORS, KEPT_KEY};

/// What a predecessor left, by key.
pub type Restored = BTreeMap<String, Vec<OwnedFd>>;

/// Why the keeper cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket to the keeper broke: the keeper ended, and this process has to end too.
    #[error("the process that keeps the sockets is gone ({0}); ending")]
    Gone(#[source] io::Error),
    /// A bug of ours.
    #[error(
        "the keeper takes keys up to {KEPT_KEY} bytes and up to {KEPT_DESCRIPTORS} descriptors: {0:?}"
    )]
    TooLarge(String),
}

/// The worker's connection to its keeper. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    socket: Arc<SeqStream>,
}

impl Client {
    /// Connects to the keeper that started this process and takes what it kept; `None` when there is no keeper.
    /// From here on this process dies with its keeper. Call it once, on the main thread's runtime.
    pub async fn connect() -> Result<Option<(Self, Restored)>, ClientError> {
        if std::env::var_os(ENVIRONMENT).is_none() {
            return Ok(None);
        }
        tulle_linux::process::die_with_parent().map_err(ClientError::Gone)?;
        let socket = std::io::stdin().as_fd().try_clone_to_owned();
        let socket = socket
            .and_then(SeqStream::from_fd)
            .map_err(ClientError::Gone)?;
        Self::take(socket).await.map(Some)
    }

    pub(super) async fn take(socket: SeqStream) -> Result<(Self, Restored), ClientError> {
        let mut restored = Restored::new();
        let mut buffer = [0; MESSAGE];
        loop {
            let (length, fds) = socket.recv(&mut buffer).await.map_err(ClientError::Gone)?;
            if length == 0 {
                return Err(ClientError::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            match Message::decode(&buffer[..length]) {
                Some(Message::Kept(key)) => {
                    restored.insert(key, fds);
                }
                Some(Message::Complete) => break,
                other => tracing::warn!(?other, "unexpected message from the keeper"),
            }
        }
        let socket = Arc::new(socket);
        Ok((Self { socket }, restored))
    }

    /// Has copies of `fds` kept under `key`, instead of what was there.
    pub async fn put(&self, key: &str, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        if key.len() > KEPT_KEY || fds.len() > KEPT_DESCRIPTORS {
            return Err(ClientError::TooLarge(key.to_owned()));
        }
        self.send(&Message::Put(key.to_owned()), fds).await
    }

    /// Has what is kept under `key` given up.
    pub async fn delete(&self, key: &str) -> Result<(), ClientError> {
        if key.len() > KEPT_KEY {
            return Err(ClientError::TooLarge(key.to_owned()));
        }
        self.send(&Message::Delete(key.to_owned()), &[]).await
    }

    /// Waits until the keeper asks this process to end in order. An error means that it is gone. One task at a time.
    pub async fn terminated(&self) -> Result<(), ClientError> {
        let mut buffer = [0; MESSAGE];
        loop {
            let (length, _) = self
                .socket
                .recv(&mut buffer)
                .await
                .map_err(ClientError::Gone)?;
            if length == 0 {
                return Err(ClientError::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            if Message::decode(&buffer[..length]) == Some(Message::Terminate) {
                return Ok(());
            }
        }
    }

    async fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let sent = self.socket.send(&message.encode(), fds).await;
        sent.map_err(ClientError::Gone)
    }
}
