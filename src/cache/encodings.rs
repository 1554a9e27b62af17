//! A body and its compressed forms, each made once.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::domain::Fingerprint;

/// Smaller bodies fit in one packet as they are.
const WORTH_COMPRESSING_BYTES: usize = 1_024;

/// Of brotli, of 11: on rankings (4 to 400 kB) the best ratio that still takes less time than the question itself.
const BROTLI_QUALITY: u32 = 5;

/// Of zstd, of 22: its own default.
const ZSTD_LEVEL: i32 = 3;

/// How a body can be compressed, the preferred first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `br`, RFC 7932.
    Brotli,
    /// `zstd`, RFC 8878.
    Zstd,
    /// `gzip`, RFC 1952.
    Gzip,
}

impl Encoding {
    /// Every encoding, the preferred first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    fn compress(self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, BROTLI_QUALITY, 22);
                encoder.write_all(plain)?;
                Ok(encoder.into_inner())
            }
            Self::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain)?;
                encoder.finish()
            }
        }
    }
}

/// A body in every form that was asked for so far. Clones share the forms.
#[derive(Debug, Clone)]
pub struct Body(Arc<Forms>);

#[derive(Debug)]
struct Forms {
    plain: Bytes,
    fingerprint: OnceLock<Fingerprint>,
    compressed: [OnceLock<Option<Bytes>>; 3],
}

impl Body {
    /// A body.
    #[must_use]
    pub fn new(plain: Bytes) -> Self {
        Self(Arc::new(Forms { plain, fingerprint: OnceLock::new(), compressed: Default::default() }))
    }

    /// The body as it is.
    #[must_use]
    pub fn plain(&self) -> &Bytes {
        &self.0.plain
    }

    /// Identifies the body.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        *self.0.fingerprint.get_or_init(|| Fingerprint::of(&self.0.plain))
    }

    /// The body compressed, by the first who asks for it; `None` where it would not be smaller.
    #[must_use]
    pub fn compressed(&self, encoding: Encoding) -> Option<Bytes> {
        let Forms { plain, compressed, .. } = &*self.0;
        if plain.len() < WORTH_COMPRESSING_BYTES {
            return None;
        }
        let made = || {
            // Writing into memory does not fail; if it did, the body would go as it is.
            let bytes = encoding.compress(plain).ok()?;
            (bytes.len() < plain.len()).then(|| Bytes::from(bytes))
        };
        compressed[encoding as usize].get_or_init(made).clone()
    }

    /// Whether [`compressed`](Self::compressed) takes no time.
    #[must_use]
    pub fn is_compressed(&self, encoding: Encoding) -> bool {
        self.0.plain.len() < WORTH_COMPRESSING_BYTES || self.0.compressed[encoding as usize].get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn every_form_is_the_same_text_and_made_once() {
        let text = r#"{"service":"shop","method":"GET","route":"/items/{id}"}"#.repeat(100);
        let body = Body::new(Bytes::from(text.clone()));
        for encoding in Encoding::ALL {
            assert!(!body.is_compressed(encoding));
            let bytes = body.compressed(encoding).unwrap();
            let mut read = Vec::new();
            match encoding {
                Encoding::Brotli => brotli::Decompressor::new(&bytes[..], 4_096).read_to_end(&mut read),
                Encoding::Zstd => zstd::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut read),
                Encoding::Gzip => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut read),
            }
            .unwrap();
            assert_eq!(read, text.as_bytes(), "{encoding:?}");
            assert!(bytes.len() * 5 < text.len(), "{encoding:?}: {}", bytes.len());
            assert!(body.is_compressed(encoding));
            let again = body.clone().compressed(encoding).unwrap();
            assert_eq!(again.as_ptr(), bytes.as_ptr(), "the same bytes");
        }
    }

    #[test]
    fn what_is_small_goes_as_it_is() {
        let body = Body::new(Bytes::from_static(b"{}"));
        assert!(Encoding::ALL.iter().all(|encoding| body.compressed(*encoding).is_none()));
    }
}
