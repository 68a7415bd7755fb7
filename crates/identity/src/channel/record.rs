//! Sealing and opening TLS 1.3 records in the caller's buffers (RFC 8446, section 5).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};
use tulle_model::Identity;

/// Bytes before the sealed content: type, version, length.
pub const HEADER: usize = 5;
/// Largest plaintext of a record.
pub const MAX_PLAINTEXT: usize = 1 << 14;
/// Bytes after the plaintext: its content type, the authentication tag.
pub const TRAILER: usize = 1 + TAG;
/// What a record costs beside its plaintext.
pub const OVERHEAD: usize = HEADER + TRAILER;
/// Largest record that a peer may send (RFC 8446 §5.2: 256 bytes of expansion).
pub const MAX_RECORD: usize = HEADER + MAX_PLAINTEXT + 256;
/// Size of the record that [`Channel::seal_key_update`] writes.
pub const KEY_UPDATE_RECORD: usize = OVERHEAD + 5;

const TAG: usize = 16;
const APPLICATION_DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// Records under one key before we change it (RFC 8446 §5.5 allows AES-GCM 2^24.5).
const RECORDS_PER_KEY: u64 = 1 << 24;
/// Bytes of a handshake message that a peer may spread over records.
const MAX_HANDSHAKE_MESSAGE: usize = 1 << 16;
/// Records without application data that a peer may send in a row.
const MAX_IDLE_RECORDS: u32 = 64;

/// What the front of a receive buffer held.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// No complete record yet.
    Incomplete,
    /// Application data at `start..start + len`; the record takes `consumed` bytes.
    Data {
        /// Bytes of the whole record.
        consumed: usize,
        /// Where the plaintext begins.
        start: usize,
        /// Its length; 0 is legal.
        len: usize,
    },
    /// A record for the channel itself. [`Channel::key_update_owed`] may have changed.
    Control {
        /// Bytes of the whole record.
        consumed: usize,
    },
    /// The peer will send nothing more.
    Closed {
        /// Bytes of the whole record.
        consumed: usize,
    },
}

/// The peer broke the record layer, or said that we did. The connection is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are no TLS 1.3 record of an established connection.
    #[error("the peer sent what is no TLS record: {0}")]
    Malformed(&'static str),
    /// The authentication tag is wrong: damaged or forged.
    #[error(
        "a TLS record failed authentication; something between the peers altered it, or the peer is broken"
    )]
    Decrypt,
    /// The peer ended the connection with an alert.
    #[error("the peer ended TLS with alert {0}")]
    Alert(u8),
    /// Too many records that carry nothing.
    #[error("the peer flooded the channel with records that carry no data")]
    Flood,
    /// Keys could not be made or used. Never the peer's doing.
    #[error("the cipher refused to work: {0}")]
    Cipher(&'static str),
}

/// An established TLS 1.3 connection: keys and counters, no buffers, no socket.
pub struct Channel {
    seal: Direction,
    open: Direction,
    secrets: Secrets,
    peer: Identity,
    partial_handshake: Vec<u8>,
    idle_records: u32,
    update_owed: bool,
}

/// Where new keys come from.
pub(super) enum Secrets {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Channel {
    pub(super) fn new(
        extracted: ExtractedSecrets,
        secrets: Secrets,
        peer: Identity,
    ) -> Result<Self, RecordError> {
        Ok(Self {
            seal: Direction::new(extracted.tx)?,
            open: Direction::new(extracted.rx)?,
            secrets,
            peer,
            partial_handshake: Vec::new(),
            idle_records: 0,
            update_owed: false,
        })
    }

    /// Who the peer proved to be.
    pub fn peer(&self) -> &Identity {
        &self.peer
    }

    /// Seals `record` in place: [`HEADER`] free bytes, the plaintext (at most [`MAX_PLAINTEXT`]), [`TRAILER`] free bytes.
    pub fn seal(&mut self, record: &mut [u8]) -> Result<(), RecordError> {
        self.seal.seal(record, APPLICATION_DATA)
    }

    /// Whether [`Channel::seal_key_update`] must come before the next record.
    pub fn key_update_owed(&self) -> bool {
        self.update_owed || self.seal.sequence >= RECORDS_PER_KEY
    }

    /// Writes a KeyUpdate record and changes the sending key.
    pub fn seal_key_update(
        &mut self,
        record: &mut [u8; KEY_UPDATE_RECORD],
    ) -> Result<(), RecordError> {
        record[HEADER..HEADER + 5].copy_from_slice(&[KEY_UPDATE, 0, 0, 1, 0]);
        self.seal.seal(record, HANDSHAKE)?;
        self.update_owed = false;
        let fresh = match &mut self.secrets {
            Secrets::Client(kernel) => kernel.update_tx_secret(),
            Secrets::Server(kernel) => kernel.update_tx_secret(),
        };
        self.seal = Direction::new(fresh.map_err(|_| RecordError::Cipher("no new sending key"))?)?;
        Ok(())
    }

    /// Writes the close_notify alert: nothing follows.
    pub fn seal_close(&mut self, record: &mut [u8; OVERHEAD + 2]) -> Result<(), RecordError> {
        record[HEADER..HEADER + 2].copy_from_slice(&[1, CLOSE_NOTIFY]);
        self.seal.seal(record, ALERT)
    }

    /// Opens the record at the front of `received`, in place.
    pub fn open(&mut self, received: &mut [u8]) -> Result<Opened, RecordError> {
        let Some((&mut [kind, major, _, high, low], rest)) =
            received.split_first_chunk_mut::<HEADER>()
        else {
            return Ok(Opened::Incomplete);
        };
        if kind != APPLICATION_DATA || major != 3 {
            return Err(RecordError::Malformed(
                "after the handshake every record is encrypted",
            ));
        }
        let sealed = usize::from(u16::from_be_bytes([high, low]));
        if !(TRAILER..=MAX_RECORD - HEADER).contains(&sealed) {
            return Err(RecordError::Malformed("its length is out of bounds"));
        }
        let Some(body) = rest.get_mut(..sealed) else {
            return Ok(Opened::Incomplete);
        };
        let aad = [kind, major, 3, high, low];
        let plain = self.open.open(aad, body)?;
        let Some(end) = body[..plain].iter().rposition(|&byte| byte != 0) else {
            return Err(RecordError::Malformed("it has no content type"));
        };
        let (consumed, kind) = (HEADER + sealed, body[end]);
        if kind == APPLICATION_DATA && end > 0 {
            self.idle_records = 0;
            return Ok(Opened::Data {
                consumed,
                start: HEADER,
                len: end,
            });
        }
        self.idle_records += 1;
        if self.idle_records > MAX_IDLE_RECORDS {
            return Err(RecordError::Flood);
        }
        let content = &received[HEADER..HEADER + end];
        match kind {
            APPLICATION_DATA => Ok(Opened::Control { consumed }),
            HANDSHAKE => {
                self.partial_handshake.extend_from_slice(content);
                self.handshake_messages()?;
                Ok(Opened::Control { consumed })
            }
            ALERT => match content {
                [_, CLOSE_NOTIFY] => Ok(Opened::Closed { consumed }),
                [_, USER_CANCELED] => Ok(Opened::Control { consumed }),
                [_, description] => Err(RecordError::Alert(*description)),
                _ => Err(RecordError::Malformed("an alert of a wrong length")),
            },
            _ => Err(RecordError::Malformed("its content type is unknown")),
        }
    }

    /// Works off complete post-handshake messages (RFC 8446 §4.6).
    fn handshake_messages(&mut self) -> Result<(), RecordError> {
        let mut messages = std::mem::take(&mut self.partial_handshake);
        let mut at = 0;
        while let Some(&[kind, a, b, c]) = messages[at..].first_chunk::<4>() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > MAX_HANDSHAKE_MESSAGE {
                return Err(RecordError::Malformed("a handshake message is too long"));
            }
            let Some(body) = messages.get(at + 4..at + 4 + len) else {
                break;
            };
            let last = at + 4 + len == messages.len();
            match (kind, body) {
                (KEY_UPDATE, &[request @ (0 | 1)]) if last => {
                    self.update_receiving_key(request == 1)?
                }
                // Tickets are of no use here: tunnels never resume.
                (NEW_SESSION_TICKET, _) if matches!(self.secrets, Secrets::Client(_)) => {}
                _ => return Err(RecordError::Malformed("an unexpected handshake message")),
            }
            at += 4 + len;
        }
        messages.drain(..at);
        if !messages.is_empty() {
            self.partial_handshake = messages;
        }
        Ok(())
    }

    fn update_receiving_key(&mut self, ours_too: bool) -> Result<(), RecordError> {
        let fresh = match &mut self.secrets {
            Secrets::Client(kernel) => kernel.update_rx_secret(),
            Secrets::Server(kernel) => kernel.update_rx_secret(),
        };
        self.open =
            Direction::new(fresh.map_err(|_| RecordError::Cipher("no new receiving key"))?)?;
        self.update_owed |= ours_too;
        Ok(())
    }
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, RecordError> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(RecordError::Cipher("an unknown cipher suite")),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .map_err(|_| RecordError::Cipher("the key does not fit the algorithm"))?;
        let iv = <[u8; 12]>::try_from(iv.as_ref())
            .map_err(|_| RecordError::Cipher("the IV does not fit the algorithm"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// The nonce of the next record; each is used once (RFC 8446 §5.3).
    fn next_nonce(&mut self) -> Result<Nonce, RecordError> {
        let sequence = self.sequence;
        self.sequence = sequence
            .checked_add(1)
            .ok_or(RecordError::Cipher("the record counter is exhausted"))?;
        let mut nonce = self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    fn seal(&mut self, record: &mut [u8], kind: u8) -> Result<(), RecordError> {
        let Some((header, body)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(RecordError::Cipher("no room for a record"));
        };
        let sealed = body.len();
        if !(TRAILER..=MAX_PLAINTEXT + TRAILER).contains(&sealed) {
            return Err(RecordError::Cipher("no room for a record"));
        }
        let [high, low] = (sealed as u16).to_be_bytes();
        *header = [APPLICATION_DATA, 3, 3, high, low];
        let nonce = self.next_nonce()?;
        let (inner, tag) = body.split_at_mut(sealed - TAG);
        inner[sealed - TRAILER] = kind;
        let sealed_tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*header), inner)
            .map_err(|_| RecordError::Cipher("sealing failed"))?;
        tag.copy_from_slice(sealed_tag.as_ref());
        Ok(())
    }

    fn open(&mut self, aad: [u8; HEADER], body: &mut [u8]) -> Result<usize, RecordError> {
        let nonce = self.next_nonce()?;
        self.key
            .open_in_place(nonce, Aad::from(aad), body)
            .map(|plain| plain.len())
            .map_err(|_| RecordError::Decrypt)
    }
}
