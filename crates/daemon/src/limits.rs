//! The bounds of this crate.

use std::time::Duration;

/// Stack of a worker thread: address space, of which only what is used is memory. Connections live on the heap; this holds one poll of
/// the deepest future, a request through a waypoint.
pub const WORKER_STACK: usize = 2 << 20;
/// Connections to one admin listener at the same time; more wait in its backlog.
pub const ADMIN_CONNECTIONS: usize = 64;
/// Body of an admin request.
pub const ADMIN_BODY: usize = 1 << 20;
/// How long an admin client may take to send its request head.
pub const ADMIN_HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long an admin client may take to send its request body.
pub const ADMIN_BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after accept failed, for example because descriptors ran out.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Things that the keeper holds at the same time. Ten listeners per pod and 250 pods are far below.
pub const KEPT_ENTRIES: usize = 16_384;
/// Descriptors of one kept thing (the kernel's limit for one message is 253).
pub const KEPT_DESCRIPTORS: usize = 32;
/// Length of a key.
pub const KEPT_KEY: usize = 1024;
/// A worker that lived for at least this long is restarted at once.
pub const WORKER_PROVED: Duration = Duration::from_secs(5);
/// The first early death that is followed by a pause.
pub const DEATHS_WITHOUT_PAUSE: u32 = 3;
/// After this time a process has done what is done only once.
pub const SETTLED: Duration = Duration::from_secs(10);
/// How often memory that is not needed goes back to the kernel.
pub const RELEASE_INTERVAL: Duration = Duration::from_secs(60);
/// First pause before restarting a worker that died early; doubles up to [`RESTART_PAUSE_MAX`].
pub const RESTART_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before a restart.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Deaths within [`WORKER_PROVED`] of their start after which the keeper gives what it holds up: the state that it
/// hands back may be what kills the worker.
pub const DEATHS_BEFORE_FORGETTING: u32 = 5;
/// Largest body of a webhook's request: an admission review holds an object twice at most, and etcd takes 1.5 MiB.
pub const WEBHOOK_BODY: usize = 4 * 1024 * 1024;
/// Requests under way on one webhook connection.
pub const WEBHOOK_STREAMS: u32 = 64;
/// Header list of a webhook's request.
pub const WEBHOOK_HEADERS: u32 = 32 * 1024;
/// How often a silent webhook connection is asked whether it lives; without an answer it is closed.
pub const WEBHOOK_PING: Duration = Duration::from_secs(30);
/// How long a webhook connection of HTTP/1.1 may wait for its next request. The API server gives idle ones up after 90 s, and
/// should be the first to do so.
pub const WEBHOOK_IDLE: Duration = Duration::from_secs(120);
