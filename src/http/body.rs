//! Reading a body, bounded while it is read and while it is decompressed.
//!
//! actix' own decompression writes the whole expansion of a chunk into memory before any limit is looked at, so it is
//! off. Here a decoder writes into a sink that refuses the first byte over the limit: 50 bytes of zstd that stand for a
//! mebibyte cost what the limit allows, no more. The compressed side is bounded too, since zstd frames that are to be
//! skipped decode to nothing.

use std::io::{self, Write};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{Data, Payload};
use flate2::write::MultiGzDecoder;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation as _, OutBuffer};

use super::error::ApiError;

/// The largest window a zstd frame may ask for, as a power of two: 8 MiB, what RFC 8878 asks every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Room is taken in pieces of so many bytes, and every body has the first without asking: 2,048 connections that begin a body
/// and do no more take 32 MiB.
const PIECE_BYTES: usize = 16 * 1_024;

/// A body that grows over this gets memory of its own (see [`OWN_BYTES`]). Most bodies are smaller: 5,000 records have 700 KB.
const SMALL_BYTES: usize = 1 << 20;

/// What glibc's allocator always takes from the system by itself, and gives back when it is freed; it keeps whatever is
/// smaller, for each thread that freed some. Only what is written to is taken, so the size costs nothing.
const OWN_BYTES: usize = (32 << 20) + 1;

/// The room that all bodies have together: a quarter more than the largest may have, so that others have room beside it.
///
/// Bounds the memory of the process, whatever is sent by however many. Whoever needs more than is left is sent away at
/// once: to wait for room while holding some could last for ever.
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    /// For bodies of at most `limit` bytes.
    pub(super) fn of(limit: usize) -> Self {
        Self(Arc::new(Semaphore::new((limit + limit / 4).div_ceil(PIECE_BYTES).max(1))))
    }

    fn take(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES)).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Arc::clone(&self.0).try_acquire_many_owned(pieces).map_err(|_| io::ErrorKind::QuotaExceeded.into())
    }
}

/// A body, decompressed; it has its room until it is dropped.
pub(super) struct Body {
    bytes: Vec<u8>,
    _taken: Option<OwnedSemaphorePermit>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a body of records is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyType {
    /// One document.
    Json,
    /// A document a line.
    Ndjson,
}

impl BodyType {
    /// By the header Content-Type, which must be there.
    pub(super) fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let value =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Ok(Self::Ndjson)
            }
            _ => Err(ApiError::UnsupportedType),
        }
    }
}

/// Reads and decompresses a body of at most `limit` bytes, compressed and not, that arrives `within` a time.
pub(super) async fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
    within: Duration,
) -> Result<Body, ApiError> {
    let room = request.app_data::<Data<Room>>().map_or_else(|| Room::of(limit), |room| Room(Arc::clone(&room.0)));
    let mut decoder = Decoder::of(request, limit, room)?;
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::BodyTooLarge { limit });
    }
    tokio::time::timeout(within, async {
        let mut received = 0;
        while let Some(chunk) = payload.next().await {
            // The client went away or broke the framing: nobody reads the answer.
            let chunk = chunk.map_err(|_| ApiError::CorruptEncoding)?;
            received += chunk.len();
            if received > limit {
                return Err(ApiError::BodyTooLarge { limit });
            }
            decoder.write(&chunk)?;
        }
        decoder.finish()
    })
    .await
    .map_err(|_| ApiError::BodyTooSlow { within })?
}

/// Undoes the content encoding.
enum Decoder {
    Identity(Bounded),
    Gzip(MultiGzDecoder<Bounded>),
    Zstd { decoder: ZstdDecoder<'static>, sink: Bounded, frame_open: bool },
}

impl Decoder {
    fn of(request: &HttpRequest, limit: usize, room: Room) -> Result<Self, ApiError> {
        let mut values = request.headers().get_all(header::CONTENT_ENCODING);
        let value = values.next().map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        if values.next().is_some() {
            return Err(ApiError::UnsupportedEncoding);
        }
        let sink = Bounded { bytes: Vec::new(), limit, granted: 0, room, taken: None };
        match value.as_deref() {
            None | Some("identity") => Ok(Self::Identity(sink)),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip(MultiGzDecoder::new(sink))),
            Some("zstd") => {
                let mut decoder = ZstdDecoder::new().map_err(|_| ApiError::Unavailable)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(|_| ApiError::Unavailable)?;
                Ok(Self::Zstd { decoder, sink, frame_open: false })
            }
            Some(_) => Err(ApiError::UnsupportedEncoding),
        }
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        match self {
            Self::Identity(sink) => sink.write_all(chunk).map_err(|error| sink.refusal(&error)),
            Self::Gzip(decoder) => decoder.write_all(chunk).map_err(|error| decoder.get_ref().refusal(&error)),
            Self::Zstd { decoder, sink, frame_open } => {
                let mut buffer = [0u8; 16 * 1024];
                let mut input = InBuffer::around(chunk);
                // A full buffer may leave more inside the decoder than the input still has to give.
                let mut full = false;
                while input.pos() < chunk.len() || full {
                    let mut output = OutBuffer::around(&mut buffer[..]);
                    let hint = decoder.run(&mut input, &mut output).map_err(|error| sink.refusal(&error))?;
                    *frame_open = hint > 0;
                    let written = output.as_slice();
                    full = written.len() == 16 * 1024 && *frame_open;
                    sink.write_all(written).map_err(|error| sink.refusal(&error))?;
                }
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Body, ApiError> {
        match self {
            Self::Identity(mut sink) => Ok(sink.body()),
            Self::Gzip(mut decoder) => {
                decoder.try_finish().map_err(|error| decoder.get_ref().refusal(&error))?;
                Ok(decoder.get_mut().body())
            }
            Self::Zstd { frame_open: true, .. } => Err(ApiError::CorruptEncoding),
            Self::Zstd { mut sink, .. } => Ok(sink.body()),
        }
    }
}

/// A buffer that refuses to grow over its limit, or where there is no room.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    /// As far as it may grow without asking.
    granted: usize,
    room: Room,
    taken: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    fn body(&mut self) -> Body {
        Body { bytes: std::mem::take(&mut self.bytes), _taken: self.taken.take() }
    }

    /// Makes room for so many bytes in all, which are within the limit.
    fn grow(&mut self, wanted: usize) -> io::Result<()> {
        if wanted <= self.granted {
            return Ok(());
        }
        // Doubling while it is small and is copied each time it grows; then, in memory of its own, by as much as a small one.
        let step = self.granted.clamp(PIECE_BYTES, SMALL_BYTES);
        let granted = wanted.max(self.granted + step).min(self.limit).max(PIECE_BYTES);
        let more = granted - self.granted.max(PIECE_BYTES);
        if more > 0 {
            let more = self.room.take(more)?;
            match &mut self.taken {
                Some(taken) => taken.merge(more),
                None => self.taken = Some(more),
            }
        }
        self.granted = granted;
        if granted <= SMALL_BYTES {
            self.bytes.reserve_exact(granted - self.bytes.len());
        } else if self.bytes.capacity() < self.limit {
            let mut own = Vec::with_capacity(self.limit.max(OWN_BYTES));
            own.extend_from_slice(&self.bytes);
            self.bytes = own;
        }
        Ok(())
    }

    /// What an error of a decoder that writes here means.
    fn refusal(&self, error: &io::Error) -> ApiError {
        // zstd tells of a window over the limit by text alone ("Frame requires too much memory for decoding").
        if error.kind() == io::ErrorKind::QuotaExceeded {
            ApiError::NoRoom
        } else if error.kind() == io::ErrorKind::FileTooLarge || error.to_string().contains("too much memory") {
            ApiError::BodyTooLarge { limit: self.limit }
        } else {
            ApiError::CorruptEncoding
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if chunk.len() > self.limit - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.grow(self.bytes.len() + chunk.len())?;
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn decode(encoding: &str, chunks: &[&[u8]], limit: usize) -> Result<Vec<u8>, u16> {
        let request = TestRequest::default().insert_header((header::CONTENT_ENCODING, encoding)).to_http_request();
        let decoded = Decoder::of(&request, limit, Room::of(limit)).and_then(|mut decoder| {
            chunks.iter().try_for_each(|chunk| decoder.write(chunk))?;
            decoder.finish()
        });
        decoded.map(|body| body.to_vec()).map_err(|error| actix_web::ResponseError::status_code(&error).as_u16())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 19).unwrap()
    }

    #[test]
    fn a_compressed_body_is_read_in_chunks_of_any_size() {
        let text: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        for (encoding, bytes) in [("gzip", gzip(&text)), ("zstd", zstd(&text)), ("identity", text.clone())] {
            for size in [1_000, 65_536] {
                let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
                assert!(decode(encoding, &chunks, text.len()) == Ok(text.clone()), "{encoding} by {size}");
            }
        }
        let two = [zstd(b"one"), zstd(b"two")].concat();
        assert_eq!(decode("zstd", &[&two], 10), Ok(b"onetwo".to_vec()));
    }

    #[test]
    fn bodies_have_their_room_together_and_give_it_back() {
        const LIMIT: usize = 4 << 20;
        let room = Room::of(LIMIT);
        let all = room.0.available_permits();
        let request = TestRequest::default().to_http_request();
        let begin = || Decoder::of(&request, LIMIT, Room(Arc::clone(&room.0))).unwrap();
        let large = vec![b' '; LIMIT];
        let mut first = begin();
        first.write(&large).unwrap();
        let first = first.finish().unwrap();
        assert_eq!((first.len(), all - room.0.available_permits()), (LIMIT, LIMIT / PIECE_BYTES - 1));
        let mut second = begin();
        assert!(matches!(second.write(&large), Err(ApiError::NoRoom)));
        let mut small = begin();
        small.write(&large[..LIMIT / 4]).unwrap();
        drop((first, second, small));
        assert_eq!(room.0.available_permits(), all);
        begin().write(&large).unwrap();
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for (encoding, bytes) in [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros)), ("identity", zeros.clone())] {
            assert_eq!(decode(encoding, &[&bytes], (8 << 20) - 1), Err(413), "{encoding}");
        }
    }

    #[test]
    fn a_window_of_two_gibibytes_is_refused() {
        // Magic, no single segment, window descriptor exponent 21 (log 31), then a raw block that never matters.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert_eq!(decode("zstd", &[&frame], 1_000), Err(413));
    }

    #[test]
    fn a_cut_or_damaged_body_is_corrupt() {
        for (encoding, bytes) in [("gzip", gzip(b"some text, some text")), ("zstd", zstd(b"some text, some text"))] {
            assert_eq!(decode(encoding, &[&bytes[..bytes.len() - 1]], 1_000), Err(400), "{encoding}");
            assert_eq!(decode(encoding, &[b"plain text"], 1_000), Err(400), "{encoding}");
        }
        let mut checksum = gzip(b"some text");
        let at = checksum.len() - 6;
        checksum[at] ^= 1;
        assert_eq!(decode("gzip", &[&checksum], 1_000), Err(400));
    }

    #[test]
    fn frames_to_be_skipped_decode_to_nothing() {
        let frame = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
        assert_eq!(decode("zstd", &[&frame], 1_000), Ok(Vec::new()));
    }

    #[test]
    fn only_one_known_encoding_is_undone() {
        for encoding in ["br", "gzip, zstd", "deflate", "gzip,gzip"] {
            assert_eq!(decode(encoding, &[b"x"], 10), Err(415), "{encoding}");
        }
    }
}
