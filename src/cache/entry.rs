//! A finished answer, and its form in Redis.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::encodings::Body;
use super::key::Key;
use crate::domain::{Fingerprint, Freshness};

/// The largest answer that is shared. At 1 Gb/s it takes 8 ms of the 40 ms that Redis has; 5 MB would take all of them, and a
/// few such in a row would open the breaker on a Redis that is well. A larger entry in Redis was not written by us.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// Checksum, fingerprint of the question, time, generation, freshness, tag.
const HEAD_BYTES: usize = 32 + 32 + 8 + 8 + 1 + 32;

/// Where the time stands in it, microseconds in eight bytes, for the script that keeps the newer of two answers.
pub(super) const MADE_AT_OFFSET: usize = 32 + 32;

/// The largest entry that is read.
pub(super) const MAX_ENTRY_BYTES: usize = HEAD_BYTES + MAX_BODY_BYTES;

/// A finished answer. Clones share its bytes.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What to send.
    pub body: Body,
    /// Identifies what it says, not when.
    pub etag: Fingerprint,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// What it is about.
    pub freshness: Freshness,
    /// The generation of the data it was made from.
    pub generation: i64,
    /// The body as it is told when it is out of date.
    stale: Arc<OnceLock<Body>>,
}

impl Entry {
    /// An answer made at `made_at`, identified by `etag`.
    #[must_use]
    pub fn new(body: Bytes, etag: Fingerprint, made_at: DateTime<Utc>, freshness: Freshness, generation: i64) -> Self {
        Self { body: Body::new(body), etag, made_at, freshness, generation, stale: Arc::default() }
    }

    /// The body as it is told when it is out of date, made once by `mark`.
    pub fn stale_body(&self, mark: impl FnOnce(&[u8]) -> Bytes) -> &Body {
        self.stale.get_or_init(|| Body::new(mark(self.body.plain())))
    }

    /// The form in Redis, under `key`.
    pub(super) fn encode(&self, key: &Key) -> Vec<u8> {
        let body = self.body.plain();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.extend_from_slice(&[0; 32]);
        bytes.extend_from_slice(key.fingerprint().as_bytes());
        bytes.extend_from_slice(&self.made_at.timestamp_micros().to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.push(match self.freshness {
            Freshness::Live => 0,
            Freshness::Recent => 1,
            Freshness::Settled => 2,
        });
        bytes.extend_from_slice(self.etag.as_bytes());
        bytes.extend_from_slice(body);
        let checksum = Fingerprint::of(&bytes[32..]);
        bytes[..32].copy_from_slice(checksum.as_bytes());
        bytes
    }

    /// `None` for bytes that are no entry of ours for `key`, whole and unchanged.
    pub(super) fn decode(key: &Key, bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return None;
        }
        let (head, body) = bytes.split_at_checked(HEAD_BYTES)?;
        let (checksum, rest) = head.split_at(32);
        if Fingerprint::of(&bytes[32..]).as_bytes() != checksum {
            return None;
        }
        let (question, rest) = rest.split_at(32);
        if key.fingerprint().as_bytes() != question {
            return None;
        }
        let (made_at, rest) = rest.split_at(8);
        let (generation, rest) = rest.split_at(8);
        let (freshness, etag) = rest.split_first()?;
        Some(Self::new(
            Bytes::copy_from_slice(body),
            Fingerprint::from(<[u8; 32]>::try_from(etag).ok()?),
            DateTime::from_timestamp_micros(i64::from_be_bytes(made_at.try_into().ok()?))?,
            match freshness {
                0 => Freshness::Live,
                1 => Freshness::Recent,
                2 => Freshness::Settled,
                _ => return None,
            },
            i64::from_be_bytes(generation.try_into().ok()?),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let made_at = DateTime::from_timestamp_micros(1).unwrap();
        Entry::new(Bytes::from_static(b"{}"), Fingerprint::of(b"what it says"), made_at, Freshness::Recent, 5)
    }

    #[test]
    fn an_entry_is_read_back_whole_or_not_at_all() {
        let key = Key::new(&"question", 5);
        let bytes = entry().encode(&key);
        let read = Entry::decode(&key, &bytes).unwrap();
        assert_eq!((read.body.plain(), read.etag, read.made_at), (entry().body.plain(), entry().etag, entry().made_at));
        assert_eq!((read.freshness, read.generation), (Freshness::Recent, 5));
        for cut in 0..bytes.len() {
            assert!(Entry::decode(&key, &bytes[..cut]).is_none(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut foreign = bytes.clone();
            foreign[at] ^= 1;
            assert!(Entry::decode(&key, &foreign).is_none(), "changed at {at}");
        }
        assert!(Entry::decode(&Key::new(&"another question", 5), &bytes).is_none());
        assert!(Entry::decode(&key, &b"some other program's value, ".repeat(100)).is_none());
        assert_eq!(bytes[MADE_AT_OFFSET..MADE_AT_OFFSET + 8], entry().made_at.timestamp_micros().to_be_bytes());
    }
}
