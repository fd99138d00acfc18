//! The records of an established TLS 1.3 session, protected and opened in place.
//!
//! rustls makes the handshake and derives every key, also for key updates; here the bytes between are
//! sealed where they lie, so that application data is never copied from one buffer to another. Sealing
//! before the cipher suite's limit is reached updates the key (RFC 8446, sections 4.6.3 and 5.5).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use rustls::kernel::KernelConnection;
use std::ops::Range;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Bytes before the content of a record.
pub const HEADER: usize = 5;
/// Bytes after the content of a record: its type and the tag.
pub const TRAILER: usize = 1 + TAG;
/// The largest content of a record (RFC 8446, section 5.1).
pub const CONTENT: usize = 1 << 14;

const TAG: usize = 16;
/// The largest protected record, without its header (RFC 8446, section 5.2).
const CIPHERTEXT: usize = CONTENT + 256;
/// Post-handshake messages that are still incomplete.
const HANDSHAKE_LIMIT: usize = 64 << 10;
/// Key updates in a row without application data between them.
const KEY_UPDATES: u32 = 32;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const WARNING: u8 = 1;
const CLOSE_NOTIFY: u8 = 0;

/// A session that cannot go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// A record was not made with the session's key, or was changed on its way.
    #[error("a TLS record cannot be decrypted")]
    Decrypt,
    /// The peer broke the protocol.
    #[error("the peer broke TLS: {0}")]
    Peer(&'static str),
    /// The peer ended the session with an error.
    #[error("the peer ended TLS with alert {0}")]
    Alert(u8),
    /// A key could not be made; a defect.
    #[error("TLS key: {0}")]
    Key(String),
}

/// What [`Session::open`] found at the start of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// Not a whole record yet.
    Incomplete,
    /// Application data, at this place of the input; the record takes `length` bytes of it.
    Data {
        /// Where the content is now.
        content: Range<usize>,
        /// Bytes of the whole record.
        length: usize,
    },
    /// A record of `length` bytes for the session itself.
    Internal {
        /// Bytes of the whole record.
        length: usize,
    },
    /// The peer ends the session in peace.
    Closed,
}

/// Derives the next keys.
trait Rekey: Send {
    fn next_sealing(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error>;
    fn next_opening(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error>;
}

impl<Data: Send> Rekey for KernelConnection<Data> {
    fn next_sealing(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_tx_secret().map(|(_, secrets)| secrets)
    }

    fn next_opening(&mut self) -> Result<ConnectionTrafficSecrets, rustls::Error> {
        self.update_rx_secret().map(|(_, secrets)| secrets)
    }
}

/// One direction: its key and its sequence number.
struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, SessionError> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(SessionError::Key("an unknown cipher suite".into())),
        };
        let wrong = |what: &str| SessionError::Key(format!("its {what} has the wrong length"));
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| wrong("key"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().try_into().map_err(|_| wrong("nonce"))?,
            sequence,
        })
    }

    /// The nonce of the next record (RFC 8446, section 5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        let sequence = self.sequence.to_be_bytes();
        for (byte, s) in nonce.iter_mut().skip(4).zip(sequence) {
            *byte ^= s;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Both directions of an established session.
pub struct Session {
    sealing: Direction,
    opening: Direction,
    /// Records after which the sealing key is updated.
    limit: u64,
    rekey: Box<dyn Rekey>,
    /// Post-handshake messages that came in part.
    handshake: Vec<u8>,
    /// The peer asked for a key update of ours.
    update_asked: bool,
    /// Key updates of the peer since its last application data.
    updates: u32,
}

impl Session {
    /// Takes over from a finished handshake.
    ///
    /// # Errors
    /// [`SessionError::Key`], which is a defect.
    pub(super) fn new<Data: Send + 'static>(
        secrets: &rustls::ExtractedSecrets,
        connection: KernelConnection<Data>,
    ) -> Result<Self, SessionError> {
        let suite = connection.negotiated_cipher_suite();
        let limit = suite
            .tls13()
            .map_or(1 << 20, |suite| suite.common.confidentiality_limit);
        Ok(Self {
            sealing: Direction::new(secrets.tx.0, &secrets.tx.1)?,
            opening: Direction::new(secrets.rx.0, &secrets.rx.1)?,
            limit,
            rekey: Box::new(connection),
            handshake: Vec::new(),
            update_asked: false,
            updates: 0,
        })
    }

    /// Updates the sealing key after this many records.
    #[cfg(test)]
    pub(crate) fn limit_records(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Makes the first [`HEADER`] + `content` + [`TRAILER`] bytes of `record` a record of
    /// application data; the content lies after the header. Returns the record's length.
    ///
    /// # Errors
    /// [`SessionError::Key`], which is a defect: the buffer is too small or `content` too large.
    pub fn seal(&mut self, record: &mut [u8], content: usize) -> Result<usize, SessionError> {
        self.seal_as(APPLICATION_DATA, record, content)
    }

    fn seal_as(
        &mut self,
        kind: u8,
        record: &mut [u8],
        content: usize,
    ) -> Result<usize, SessionError> {
        let defect = || SessionError::Key("a record does not fit".into());
        let protected = content + TRAILER;
        let (header, rest) = record
            .split_first_chunk_mut::<HEADER>()
            .ok_or_else(defect)?;
        let (inner, rest) = rest.split_at_mut_checked(content + 1).ok_or_else(defect)?;
        let tag_place = rest.first_chunk_mut::<TAG>().ok_or_else(defect)?;
        if content > CONTENT {
            return Err(defect());
        }
        let [high, low] = u16::try_from(protected)
            .map_err(|_| defect())?
            .to_be_bytes();
        *header = [APPLICATION_DATA, 3, 3, high, low];
        if let Some(last) = inner.last_mut() {
            *last = kind;
        }
        let nonce = self.sealing.nonce();
        #[cfg(feature = "sabotage")]
        if super::sabotage::plaintext() {
            return Ok(HEADER + protected);
        }
        let tag = self
            .sealing
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(*header), inner)
            .map_err(|_| SessionError::Key("sealing failed".into()))?;
        tag_place.copy_from_slice(tag.as_ref());
        Ok(HEADER + protected)
    }

    /// Whether [`Session::update_key`] must be called before the next record is sealed.
    #[must_use]
    pub fn wants_key_update(&self) -> bool {
        self.update_asked || self.sealing.sequence >= self.limit
    }

    /// A record that updates the sealing key; what is sealed after it uses the new one.
    ///
    /// # Errors
    /// [`SessionError::Key`], which is a defect.
    pub fn update_key(&mut self) -> Result<Vec<u8>, SessionError> {
        // A message of one byte: update_not_requested.
        let message = [KEY_UPDATE, 0, 0, 1, 0];
        let record = self.internal(HANDSHAKE, &message)?;
        let secrets = self
            .rekey
            .next_sealing()
            .map_err(|e| SessionError::Key(e.to_string()))?;
        self.sealing = Direction::new(0, &secrets)?;
        self.update_asked = false;
        Ok(record)
    }

    /// A record that ends our direction in peace.
    ///
    /// # Errors
    /// [`SessionError::Key`], which is a defect.
    pub fn close_notify(&mut self) -> Result<Vec<u8>, SessionError> {
        self.internal(ALERT, &[WARNING, CLOSE_NOTIFY])
    }

    fn internal(&mut self, kind: u8, message: &[u8]) -> Result<Vec<u8>, SessionError> {
        let mut record = vec![0; HEADER + message.len() + TRAILER];
        if let Some(place) = record.get_mut(HEADER..HEADER + message.len()) {
            place.copy_from_slice(message);
        }
        self.seal_as(kind, &mut record, message.len())?;
        Ok(record)
    }

    /// Opens the record at the start of `input`, in place.
    ///
    /// # Errors
    /// [`SessionError`]; the session is over then.
    pub fn open(&mut self, input: &mut [u8]) -> Result<Opened, SessionError> {
        let Some((&mut header, rest)) = input.split_first_chunk_mut::<HEADER>() else {
            return Ok(Opened::Incomplete);
        };
        let [outer, _, _, high, low] = header;
        let protected = usize::from(u16::from_be_bytes([high, low]));
        if outer != APPLICATION_DATA {
            return Err(SessionError::Peer("a record that is not protected"));
        }
        if protected > CIPHERTEXT {
            return Err(SessionError::Peer("a record that is too large"));
        }
        let Some(body) = rest.get_mut(..protected) else {
            return Ok(Opened::Incomplete);
        };
        let inner = self.decrypt(header, body)?;
        // Section 5.4: content, type, zeros.
        let Some(last) = inner.iter().rposition(|&byte| byte != 0) else {
            return Err(SessionError::Peer("a record without a type"));
        };
        if inner.len() > CONTENT + 1 {
            return Err(SessionError::Peer("a record that is too large"));
        }
        let (content, kind) = (inner.get(..last).unwrap_or_default(), inner.get(last));
        if kind != Some(&HANDSHAKE) && !self.handshake.is_empty() {
            return Err(SessionError::Peer("a handshake message is interrupted"));
        }
        let length = HEADER + protected;
        match kind {
            Some(&APPLICATION_DATA) => {
                if last > 0 {
                    self.updates = 0;
                }
                Ok(Opened::Data {
                    content: HEADER..HEADER + last,
                    length,
                })
            }
            Some(&HANDSHAKE) => {
                let message = content.to_vec();
                self.post_handshake(&message)?;
                Ok(Opened::Internal { length })
            }
            Some(&ALERT) => match content {
                [_, CLOSE_NOTIFY] => Ok(Opened::Closed),
                [_, alert] => Err(SessionError::Alert(*alert)),
                _ => Err(SessionError::Peer("a malformed alert")),
            },
            _ => Err(SessionError::Peer("a record of an unexpected type")),
        }
    }

    fn decrypt<'a>(
        &mut self,
        header: [u8; HEADER],
        body: &'a mut [u8],
    ) -> Result<&'a mut [u8], SessionError> {
        let nonce = self.opening.nonce();
        #[cfg(feature = "sabotage")]
        if super::sabotage::plaintext() {
            let inner = body.len().checked_sub(TAG);
            return inner
                .and_then(|inner| body.get_mut(..inner))
                .ok_or(SessionError::Decrypt);
        }
        self.opening
            .key
            .open_in_place(nonce, Aad::from(header), body)
            .map_err(|_| SessionError::Decrypt)
    }

    /// Messages after the handshake (RFC 8446, section 4.6), possibly in pieces.
    fn post_handshake(&mut self, piece: &[u8]) -> Result<(), SessionError> {
        if piece.is_empty() || self.handshake.len() + piece.len() > HANDSHAKE_LIMIT {
            return Err(SessionError::Peer("a handshake message of a wrong size"));
        }
        self.handshake.extend_from_slice(piece);
        let mut done = 0;
        while let Some([kind, a, b, c, rest @ ..]) = self.handshake.get(done..) {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(body) = rest.get(..length) else {
                break;
            };
            match (*kind, body) {
                // Sessions are not resumed.
                (NEW_SESSION_TICKET, _) => {}
                (KEY_UPDATE, [asked @ (0 | 1)]) if rest.len() == 1 => {
                    self.update_asked |= *asked == 1;
                    self.updates += 1;
                    if self.updates > KEY_UPDATES {
                        return Err(SessionError::Peer("too many key updates"));
                    }
                    let secrets = self
                        .rekey
                        .next_opening()
                        .map_err(|e| SessionError::Key(e.to_string()))?;
                    self.opening = Direction::new(0, &secrets)?;
                }
                _ => return Err(SessionError::Peer("an unexpected handshake message")),
            }
            done += 4 + length;
        }
        self.handshake.drain(..done);
        if self.handshake.is_empty() {
            self.handshake = Vec::new();
        }
        Ok(())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("sealed", &self.sealing.sequence)
            .field("opened", &self.opening.sequence)
            .finish_non_exhaustive()
    }
}
