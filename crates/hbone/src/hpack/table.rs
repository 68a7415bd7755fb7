//! The static table (RFC 7541, appendix A) and the dynamic one (§2.3.2).

use std::collections::VecDeque;

use super::{FIELD_OVERHEAD, HpackError};

#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Name and value.
pub(super) type Field = (Box<[u8]>, Box<[u8]>);

/// Both tables in one index space.
pub(super) struct Table {
    entries: VecDeque<Field>,
    size: usize,
    capacity: usize,
    /// What our SETTINGS allow; the encoder may choose less.
    allowed: usize,
}

impl Table {
    pub(super) fn new(allowed: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            capacity: allowed,
            allowed,
        }
    }

    pub(super) fn get(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let index = index.checked_sub(1).ok_or(HpackError::Malformed)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        self.entries
            .get(index - STATIC.len())
            .map(|(name, value)| (&**name, &**value))
            .ok_or(HpackError::Malformed)
    }

    /// A dynamic table size update; false if it asks for more than allowed.
    pub(super) fn resize(&mut self, capacity: usize) -> bool {
        self.capacity = capacity;
        self.evict(0);
        capacity <= self.allowed
    }

    pub(super) fn insert(&mut self, name: Box<[u8]>, value: Box<[u8]>) {
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.evict(size);
        // An entry larger than the table leaves it empty, and that is no error (§4.4).
        if size <= self.capacity {
            self.size += size;
            self.entries.push_front((name, value));
        }
    }

    fn evict(&mut self, needed: usize) {
        while self.size + needed > self.capacity {
            let Some((name, value)) = self.entries.pop_back() else {
                return;
            };
            self.size -= name.len() + value.len() + FIELD_OVERHEAD;
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}
