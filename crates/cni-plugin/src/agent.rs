//! The conversation with the node agent: one JSON object in each direction, each preceded by its length as four bytes,
//! big endian.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, Serializer};

use crate::call::{Call, Pod};
use crate::limits::{CONNECT_PAUSE, MESSAGE};

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) command: &'static str,
    pub(crate) call: &'a Call,
    pub(crate) pod: &'a Pod,
    pub(crate) ips: Vec<String>,
}

/// What is answered.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) error: Option<String>,
}

/// A connection to the node agent.
pub(crate) struct Agent(UnixStream);

impl Agent {
    /// Connects; waits for a socket that is not there yet.
    pub(crate) fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        let end = Instant::now() + patience;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(Self(stream)),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => std::thread::sleep(CONNECT_PAUSE),
            }
        }
    }

    /// One request and its answer, before the deadline.
    pub(crate) fn ask(&mut self, request: &Request<'_>, deadline: Instant) -> io::Result<Answer> {
        let text = serde_json::to_vec(request)?;
        let length = u32::try_from(text.len())
            .ok()
            .filter(|length| *length <= MESSAGE);
        let length = length.ok_or_else(|| invalid("the request is too long"))?;
        self.0.set_write_timeout(Some(left(deadline)?))?;
        self.0.write_all(&length.to_be_bytes())?;
        self.0.write_all(&text)?;
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = u32::from_be_bytes(length);
        if length > MESSAGE {
            return Err(invalid("its answer is too long"));
        }
        let mut text = vec![0; length as usize];
        self.read(&mut text, deadline)?;
        serde_json::from_slice(&text).map_err(|_| invalid("its answer makes no sense"))
    }

    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !into.is_empty() {
            self.0.set_read_timeout(Some(left(deadline)?))?;
            match self.0.read(into) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "it closed the connection",
                    ));
                }
                Ok(length) => into = &mut into[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Serialize for Request<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            command: &'a str,
            netns: Option<&'a str>,
            pod_name: &'a str,
            pod_namespace: &'a str,
            pod_uid: Option<&'a str>,
            sandbox_id: &'a str,
            ips: &'a [String],
        }
        Wire {
            command: self.command,
            netns: self.call.netns.as_deref(),
            pod_name: &self.pod.name,
            pod_namespace: &self.pod.namespace,
            pod_uid: self.pod.uid.as_deref(),
            sandbox_id: &self.call.sandbox,
            ips: &self.ips,
        }
        .serialize(serializer)
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(late())
    } else {
        Ok(left)
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it took too long")
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
