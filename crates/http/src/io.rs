//! Byte streams and tasks of one worker, as the HTTP library wants them.

use std::future::Future;

use tokio::io::{AsyncRead, AsyncWrite};

/// Any byte stream of this worker.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A byte stream whose kind does not matter.
pub type BoxIo = Box<dyn Io>;

/// So many bytes were taken, but could not be sent: the reason of an [`std::io::Error`] of a stream that takes bytes before it
/// sends them. Each byte is told of once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes could not be sent")]
pub struct Unsent(pub u64);

/// Runs the HTTP library's tasks on this worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker;

impl<F: Future + 'static> hyper::rt::Executor<F> for Worker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
