//! What is between frames and the socket: TLS records, or (in tests of the codec) nothing.

use tulle_identity::channel::{self, Channel, Opened, RecordError};

/// Seals and opens in place.
pub(crate) enum Transport {
    /// The real one.
    Tls(Box<Channel>),
    /// For conversations with peers that speak HTTP/2 without TLS.
    #[cfg(test)]
    Plain,
}

/// Plaintext that goes into one record.
pub(crate) const MAX_PLAINTEXT: usize = channel::MAX_PLAINTEXT;

impl Transport {
    /// Free bytes to leave before and after the plaintext of a record.
    pub(crate) fn margins(&self) -> (usize, usize) {
        match self {
            Self::Tls(_) => (channel::HEADER, channel::TRAILER),
            #[cfg(test)]
            Self::Plain => (0, 0),
        }
    }

    /// Seals a record with its margins.
    pub(crate) fn seal(&mut self, record: &mut [u8]) -> Result<(), RecordError> {
        match self {
            Self::Tls(channel) => channel.seal(record),
            #[cfg(test)]
            Self::Plain => {
                let _ = record;
                Ok(())
            }
        }
    }

    /// The channel, if it wants to send a key update before anything else.
    pub(crate) fn key_update(&mut self) -> Option<&mut Channel> {
        match self {
            Self::Tls(channel) => channel.key_update_owed().then_some(channel),
            #[cfg(test)]
            Self::Plain => None,
        }
    }

    /// Writes the end of the transport to `record`; how long it is.
    pub(crate) fn seal_close(&mut self, record: &mut [u8; channel::OVERHEAD + 2]) -> usize {
        match self {
            Self::Tls(channel) => channel.seal_close(record).map_or(0, |()| record.len()),
            #[cfg(test)]
            Self::Plain => {
                let _ = record;
                0
            }
        }
    }

    /// Opens all complete records of `received` in place; their places go to `records`. Returns how many bytes were used up.
    pub(crate) fn open(
        &mut self,
        received: &mut [u8],
        records: &mut Vec<(usize, usize)>,
    ) -> Result<Received, RecordError> {
        records.clear();
        match self {
            Self::Tls(channel) => {
                let mut used = 0;
                loop {
                    match channel.open(&mut received[used..])? {
                        Opened::Incomplete => {
                            return Ok(Received {
                                used,
                                closed: false,
                            });
                        }
                        Opened::Data {
                            consumed,
                            start,
                            len,
                        } => {
                            records.push((used + start, used + start + len));
                            used += consumed;
                        }
                        Opened::Control { consumed } => used += consumed,
                        Opened::Closed { consumed } => {
                            return Ok(Received {
                                used: used + consumed,
                                closed: true,
                            });
                        }
                    }
                }
            }
            #[cfg(test)]
            Self::Plain => {
                records.push((0, received.len()));
                Ok(Received {
                    used: received.len(),
                    closed: false,
                })
            }
        }
    }
}

/// How far [`Transport::open`] came.
pub(crate) struct Received {
    /// Bytes used up.
    pub(crate) used: usize,
    /// The peer will send nothing more.
    pub(crate) closed: bool,
}
