//! The static and the dynamic table (RFC 7541 section 2.3 and appendix A).

use super::FIELD_OVERHEAD;
use std::collections::VecDeque;

/// Name and value of the entries 1 to 61.
#[rustfmt::skip]
pub(super) const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// One field, in one allocation.
#[derive(Debug)]
pub(super) struct Entry {
    bytes: Box<[u8]>,
    name_len: usize,
}

impl Entry {
    pub(super) fn new(name: &[u8], value: &[u8]) -> Self {
        Self {
            bytes: [name, value].concat().into(),
            name_len: name.len(),
        }
    }

    fn size(&self) -> usize {
        self.bytes.len() + FIELD_OVERHEAD
    }
}

/// The fields that the peer's encoder asked to keep, the newest first. What it holds never exceeds
/// the maximum size, counted as section 4.1 does, which is more than the memory it takes.
#[derive(Debug)]
pub(super) struct DynamicTable {
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
}

impl DynamicTable {
    pub(super) fn new(max_size: u32) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size: max_size as usize,
        }
    }

    /// The maximum size in bytes.
    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    /// Changes the maximum size, which may evict entries (section 4.3).
    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict_to(max_size);
        if max_size == 0 {
            self.entries = VecDeque::new();
        }
    }

    /// Adds an entry and evicts what it displaces. One larger than the table empties it, and is no
    /// error (section 4.4).
    pub(super) fn insert(&mut self, entry: Entry) {
        let Some(room) = self.max_size.checked_sub(entry.size()) else {
            self.evict_to(0);
            return;
        };
        self.evict_to(room);
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    /// Name and value of an entry, of either table (section 2.3.3).
    pub(super) fn get(&self, index: u32) -> Option<(&[u8], &[u8])> {
        let position = (index as usize).checked_sub(1)?;
        match position.checked_sub(STATIC.len()) {
            None => Some(STATIC[position]),
            Some(position) => {
                let entry = self.entries.get(position)?;
                Some(entry.bytes.split_at(entry.name_len))
            }
        }
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else {
                return;
            };
            self.size -= oldest.size();
        }
    }
}
