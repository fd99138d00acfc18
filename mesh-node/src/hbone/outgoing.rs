//! What a tunnel has to send: HTTP/2 frames, laid out as TLS records and sealed in place.
//!
//! A socket is read straight into the place where its bytes are sealed and from which they are
//! written, so they are not copied in between. Frames of many streams share a record while it is open.
//! A buffer is taken from the thread's stock when there is something to send, and goes back when all
//! of it is sent.

use std::cell::RefCell;
use std::io::IoSliceMut;

use crate::tls::{CONTENT, HEADER, Session, SessionError, TRAILER};

#[cfg(test)]
mod tests;

/// Bytes of a whole record.
const RECORD: usize = HEADER + CONTENT + TRAILER;
/// Records in a buffer.
const RECORDS: usize = 16;
/// Bytes of a DATA frame's header.
const FRAME: usize = 9;
/// The payload of a DATA frame that fills a record.
const PAYLOAD: usize = CONTENT - FRAME;
/// An open record with less room than this is closed when a larger read may fill another.
const TOO_SMALL: usize = 2 << 10;
/// Buffers that a thread keeps for reuse.
const STOCK: usize = 4;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The buffer of one tunnel. From front to back: sent, sealed, open (one record at most), free.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    buffer: Vec<u8>,
    /// Where the bytes that are still to be written begin.
    sent: usize,
    /// Where the sealed records end, and the open one begins.
    sealed: usize,
    /// Bytes of content in the open record.
    open: usize,
}

impl Outgoing {
    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.sealed && self.open == 0
    }

    /// Content that fits into this record and those after it.
    fn room_for(&self, content: usize) -> bool {
        let free = CONTENT.saturating_sub(self.open);
        let further = content.saturating_sub(free).div_ceil(CONTENT);
        self.sealed + RECORD * (1 + further) <= RECORD * RECORDS
    }

    /// Whether one more record can be begun.
    pub(super) fn has_room(&self) -> bool {
        self.room_for(CONTENT)
    }

    fn take_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BUFFERS
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| vec![0; RECORD * RECORDS]);
        }
    }

    /// Appends frames; false, and nothing is taken, when there is no room.
    pub(super) fn push(
        &mut self,
        mut frames: &[u8],
        session: &mut Session,
    ) -> Result<bool, SessionError> {
        if !self.room_for(frames.len()) {
            return Ok(false);
        }
        self.take_buffer();
        while !frames.is_empty() {
            let (now, later) = frames.split_at(frames.len().min(CONTENT - self.open));
            let start = self.sealed + HEADER + self.open;
            if let Some(place) = self.buffer.get_mut(start..start + now.len()) {
                place.copy_from_slice(now);
            }
            self.open += now.len();
            frames = later;
            if self.open == CONTENT {
                self.close(session)?;
            }
        }
        Ok(true)
    }

    /// Seals the open record.
    pub(super) fn close(&mut self, session: &mut Session) -> Result<(), SessionError> {
        if self.open == 0 {
            return Ok(());
        }
        let record = self.buffer.get_mut(self.sealed..).unwrap_or_default();
        self.sealed += session.seal(record, self.open)?;
        self.open = 0;
        Ok(())
    }

    /// Appends a record that is sealed already.
    pub(super) fn push_sealed(&mut self, record: &[u8]) -> bool {
        self.take_buffer();
        let end = self.sealed + record.len();
        match self.buffer.get_mut(self.sealed..end) {
            Some(place) if self.open == 0 => {
                place.copy_from_slice(record);
                self.sealed = end;
                true
            }
            _ => false,
        }
    }

    /// Where the payloads of DATA frames may be read to, `limit` bytes at most in at most `records`
    /// records. Call [`Outgoing::commit`] with what was read. Empty when there is no room.
    pub(super) fn places(
        &mut self,
        limit: usize,
        records: usize,
        session: &mut Session,
    ) -> Result<Places<'_>, SessionError> {
        self.take_buffer();
        let free = CONTENT - self.open;
        if free < FRAME + TOO_SMALL.min(limit) {
            self.close(session)?;
        }
        let mut places = Places::default();
        let mut content = self.open;
        let mut rest = self.buffer.get_mut(self.sealed..).unwrap_or_default();
        let mut at = self.sealed;
        while places.count < records.min(RECORDS)
            && places.bytes < limit
            && at + RECORD <= RECORD * RECORDS
        {
            let (record, later) = rest.split_at_mut(RECORD.min(rest.len()));
            let length = (CONTENT - content - FRAME).min(limit - places.bytes);
            let start = HEADER + content + FRAME;
            let Some(place) = record.get_mut(start..start + length) else {
                break;
            };
            if let Some(slot) = places.slots.get_mut(places.count) {
                *slot = IoSliceMut::new(place);
            }
            places.count += 1;
            places.bytes += length;
            content = 0;
            at += RECORD;
            rest = later;
        }
        Ok(places)
    }

    /// Makes DATA frames of `read` bytes that lie in the places last handed out; `header` gives the
    /// header of a frame of some length.
    pub(super) fn commit(
        &mut self,
        mut read: usize,
        session: &mut Session,
        mut header: impl FnMut(usize) -> Option<[u8; FRAME]>,
    ) -> Result<(), SessionError> {
        while read > 0 {
            let length = read.min(CONTENT - self.open - FRAME);
            let start = self.sealed + HEADER + self.open;
            let (Some(place), Some(header)) =
                (self.buffer.get_mut(start..start + FRAME), header(length))
            else {
                return Err(SessionError::Key("a frame has no place".into()));
            };
            place.copy_from_slice(&header);
            self.open += FRAME + length;
            read -= length;
            if self.open == CONTENT || read > 0 {
                self.close(session)?;
            }
        }
        Ok(())
    }

    /// Sealed bytes that are still to be written.
    pub(super) fn unsent(&self) -> &[u8] {
        self.buffer.get(self.sent..self.sealed).unwrap_or_default()
    }

    /// Notes that the first `written` of them were written.
    pub(super) fn wrote(&mut self, written: usize) {
        self.sent += written;
        if self.is_empty() {
            (self.sent, self.sealed) = (0, 0);
            self.give_back();
        }
    }

    /// Lets go of a buffer that was taken and is not used.
    pub(super) fn settle(&mut self) {
        if self.is_empty() {
            self.wrote(0);
        }
    }

    fn give_back(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            BUFFERS.with_borrow_mut(|stock| {
                if stock.len() < STOCK {
                    stock.push(buffer);
                }
            });
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Where to read to.
#[derive(Debug)]
pub(super) struct Places<'a> {
    slots: [IoSliceMut<'a>; RECORDS],
    count: usize,
    /// Bytes in all.
    pub(super) bytes: usize,
}

impl Default for Places<'_> {
    fn default() -> Self {
        Self {
            slots: std::array::from_fn(|_| IoSliceMut::new(&mut [])),
            count: 0,
            bytes: 0,
        }
    }
}

impl<'a> Places<'a> {
    pub(super) fn slots(&mut self) -> &mut [IoSliceMut<'a>] {
        self.slots.get_mut(..self.count).unwrap_or_default()
    }
}

/// Bytes that fill a whole buffer; what a relay reads at most at once.
pub(super) const LARGEST_READ: usize = PAYLOAD * RECORDS;
/// Records of a buffer.
pub(super) const MOST_RECORDS: u8 = RECORDS as u8;
