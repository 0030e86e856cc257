//! Compression of requests: once a request, however often it is sent.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::config::meaning::Compression;
use crate::model::{Code, Refusal};
use crate::runtime::budget::{Copy, Room};
use crate::runtime::{Heavy, Pause, Tasks};

/// Speed before size: the network between a node and its Collector is wide, the node's CPU belongs to others.
const ZSTD_LEVEL: i32 = 1;

/// Bodies of more bytes are compressed beside the runtime: that takes milliseconds, for which other requests would wait …
const BESIDE: usize = 64 * 1024;
/// … and those of more apart from these.
const LARGE: usize = 256 * 1024;
/// Bytes that gzip compresses in a tenth of a millisecond, about.
const PIECE: usize = 16 * 1024;
/// Spans usually become at least this much smaller.
const USUAL_RATIO: usize = 4;

/// Compresses the bodies of one exporter.
#[derive(Debug)]
pub struct Compressor {
    compression: Compression,
    usual: Heavy,
    large: Heavy,
}

impl Compressor {
    /// As configured.
    #[must_use]
    pub fn new(compression: Compression, tasks: Tasks) -> Self {
        Self { compression, usual: Heavy::brief(tasks.clone(), "compress"), large: Heavy::new(tasks, "compress large") }
    }

    /// Whether bodies travel compressed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.compression != Compression::None
    }

    /// The body as it travels, made here or beside the runtime, and the room it holds.
    ///
    /// # Errors
    /// Where there is no room, or the encoder has no memory.
    pub async fn run(&self, body: Bytes, room: &Room) -> Result<(Bytes, Copy), Refusal> {
        if !self.is_on() {
            return Ok((body, Copy::default()));
        }
        let mut copy = room.copy(body.len() / USUAL_RATIO)?;
        let (compression, length) = (self.compression, body.len());
        let work = move |pause: Pause| {
            let made = compress(compression, body, pause)?;
            copy.settle(made.len());
            Ok((made, copy))
        };
        let heavy = if length > LARGE { &self.large } else { &self.usual };
        let done = heavy.run(length > BESIDE, work).await;
        done.unwrap_or_else(|_| Err(Refusal::new(Code::Unavailable, "request could not be compressed")))
    }
}

/// The body as it travels.
///
/// # Errors
/// Where the encoder has no memory.
fn compress(compression: Compression, body: Bytes, pause: Pause) -> Result<Bytes, Refusal> {
    let failed = |why: std::io::Error| Refusal::new(Code::ResourceExhausted, format!("request could not be compressed: {why}"));
    match compression {
        Compression::None => Ok(body),
        Compression::Gzip => {
            let room = Vec::with_capacity(body.len() / USUAL_RATIO);
            let mut encoder = GzEncoder::new(room, flate2::Compression::fast());
            for piece in body.chunks(PIECE) {
                encoder.write_all(piece).map_err(failed)?;
                pause();
            }
            encoder.finish().map(Bytes::from).map_err(failed)
        }
        Compression::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL).map(Bytes::from).map_err(failed),
    }
}

/// An answer as it was before it travelled; `None` for a coding nobody here speaks, broken data, and more than `limit` bytes.
pub fn inflate(coding: &[u8], data: &[u8], limit: usize) -> Option<Bytes> {
    let most = u64::try_from(limit).ok()?.checked_add(1)?;
    let mut inflated = Vec::new();
    let read = match coding {
        b"gzip" => MultiGzDecoder::new(data).take(most).read_to_end(&mut inflated),
        b"zstd" => zstd::stream::read::Decoder::new(data).ok()?.take(most).read_to_end(&mut inflated),
        _ => return None,
    };
    (read.is_ok() && inflated.len() <= limit).then(|| inflated.into())
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::runtime::NO_PAUSE;

    #[tokio::test]
    async fn a_large_body_is_in_no_others_way() {
        let compressor = Compressor::new(Compression::Gzip, Tasks::new());
        let room = Room::default();
        let noise: Vec<u8> = (0..64_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        let mut large = std::pin::pin!(compressor.run(noise.into(), &room));
        let mut context = Context::from_waker(Waker::noop());
        assert!(large.as_mut().poll(&mut context).is_pending());
        for _ in 0..3 {
            let (usual, _) = compressor.run(Bytes::from(vec![7; BESIDE + 1]), &room).await.unwrap();
            assert!(usual.len() < BESIDE);
            assert!(large.as_mut().poll(&mut context).is_pending(), "it was waited for");
        }
    }

    #[test]
    fn what_was_compressed_is_inflated_up_to_a_limit() {
        for (compression, coding) in [(Compression::Gzip, &b"gzip"[..]), (Compression::Zstd, b"zstd")] {
            let travelled = compress(compression, Bytes::from_static(b"0123456789"), NO_PAUSE).unwrap();
            assert_eq!(inflate(coding, &travelled, 10).as_deref(), Some(&b"0123456789"[..]));
            assert_eq!(inflate(coding, &travelled, 9), None);
            assert_eq!(inflate(coding, b"no such data", 100), None);
        }
        assert_eq!(inflate(b"br", b"", 10), None);
    }

    #[test]
    fn what_is_compressed_is_the_body() {
        for body in [Bytes::new(), Bytes::from(vec![7; 100_000])] {
            assert_eq!(compress(Compression::None, body.clone(), NO_PAUSE).unwrap(), body);
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&*compress(Compression::Gzip, body.clone(), NO_PAUSE).unwrap()).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, body);
            assert_eq!(zstd::decode_all(&*compress(Compression::Zstd, body.clone(), NO_PAUSE).unwrap()).unwrap(), body);
        }
    }

    #[test]
    fn long_work_pauses() {
        thread_local!(static PAUSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
        compress(Compression::Gzip, Bytes::from(vec![7; 1 << 20]), || PAUSES.set(PAUSES.get() + 1)).unwrap();
        assert_eq!(PAUSES.get(), (1 << 20) / PIECE);
    }
}
