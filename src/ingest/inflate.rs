//! Content codings of requests, undone within a limit.
//!
//! Whole bodies only, and without an await: at most one inflation runs per thread, so the decoders' windows (up to
//! 8 MiB for zstd) need no room in the budget of requests.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::budget::Ticket;
use super::problem::Problem;
use crate::runtime::Pause;

/// The largest zstd window taken: 2^23 bytes, the least that RFC 8878 §3.1.1.1.2 recommends to support, and what the
/// Collector's encoder uses.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// First piece of output made room for where the body does not say how long it becomes.
const FIRST_PIECE: usize = 16 * 1024;
/// Bytes inflated in a tenth of a millisecond, about.
const PIECE: usize = 32 * 1024;
/// Bytes of a gzip trailer that hold the inflated length (RFC 1952 §2.3.1).
const GZIP_LENGTH_BYTES: usize = 4;
/// What becomes longer than this, the largest message gRPC's receivers take by default …
const ANY_RATIO: usize = 4 << 20;
/// … may be so many times as long as it was compressed: telemetry is 5 to 50 times as long, deflate's most is 1 032
/// (RFC 1951: 258 bytes from two codes of one bit), zstd's far more.
const MAX_RATIO: usize = 256;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952, several members allowed.
    Gzip,
    /// RFC 8878, several frames allowed.
    Zstd,
}

impl Coding {
    /// The coding of this name; empty is identity.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim();
        [("", Self::Identity), ("identity", Self::Identity), ("gzip", Self::Gzip), ("x-gzip", Self::Gzip), ("zstd", Self::Zstd)]
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, coding)| coding)
    }
}

/// Undoes `coding`. `ticket` holds the bytes of `body`; afterwards it holds those of the result.
///
/// # Errors
/// Larger than `limit`, no room in the budget, or not what the coding says.
pub fn inflate(coding: Coding, body: Bytes, limit: usize, ticket: &mut Ticket, pause: Pause) -> Result<Bytes, Problem> {
    if coding == Coding::Identity || body.is_empty() {
        return Ok(body);
    }
    let by_ratio = believable(body.len()).max(ANY_RATIO);
    let announced = announced(coding, &body).unwrap_or(FIRST_PIECE);
    let mut out = Output { bytes: Vec::new(), limit: limit.min(by_ratio), announced, ticket, pause };
    let done = undo(coding, &body, &mut out);
    match done {
        Err(Problem::TooLarge { .. }) if by_ratio < limit => Err(Problem::Swollen { limit: by_ratio }),
        done => done.map(|()| out.finish()),
    }
}

fn undo(coding: Coding, body: &[u8], out: &mut Output<'_>) -> Result<(), Problem> {
    let broken = |why: std::io::Error| Problem::Broken(format!("body is not valid {coding:?}: {why}"));
    match coding {
        Coding::Identity => Ok(()),
        Coding::Gzip => out.fill(MultiGzDecoder::new(body), broken),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            out.fill(decoder, broken)
        }
    }
}

/// The longest that so many bytes of anything become.
fn believable(wire: usize) -> usize {
    wire.saturating_mul(MAX_RATIO)
}

/// The inflated length the body announces, where it does and where that can be believed. Only a hint: who announces more than
/// his bytes become has no room made for it.
pub fn announced(coding: Coding, body: &[u8]) -> Option<usize> {
    let length = match coding {
        Coding::Gzip => {
            let trailer = body.last_chunk::<GZIP_LENGTH_BYTES>()?;
            usize::try_from(u32::from_le_bytes(*trailer)).ok()?
        }
        Coding::Zstd => usize::try_from(zstd::zstd_safe::get_frame_content_size(body).ok()??).ok()?,
        Coding::Identity => return None,
    };
    (length <= believable(body.len())).then_some(length)
}

struct Output<'t> {
    bytes: Vec<u8>,
    limit: usize,
    announced: usize,
    ticket: &'t mut Ticket,
    pause: Pause,
}

impl Output<'_> {
    fn fill(&mut self, mut decoder: impl Read, broken: impl Fn(std::io::Error) -> Problem) -> Result<(), Problem> {
        loop {
            let room = self.make_room()?;
            let before = self.bytes.len();
            for at in (0..room).step_by(PIECE) {
                let piece = PIECE.min(room - at);
                decoder.by_ref().take(piece as u64).read_to_end(&mut self.bytes).map_err(&broken)?;
                if self.bytes.len().saturating_sub(before) < at + piece {
                    break;
                }
                (self.pause)();
            }
            if self.bytes.len() > self.limit {
                return Err(Problem::TooLarge { limit: self.limit });
            }
            if self.bytes.len().saturating_sub(before) < room {
                return Ok(());
            }
        }
    }

    /// Spare bytes, ticketed first. One byte more than the limit is asked for, to see whether it is exceeded.
    fn make_room(&mut self) -> Result<usize, Problem> {
        let end = self.limit.saturating_add(1);
        let wanted = if self.bytes.is_empty() { self.announced.saturating_add(1) } else { self.bytes.len() };
        let room = wanted.max(FIRST_PIECE).min(end.saturating_sub(self.bytes.len()));
        if room == 0 {
            return Err(Problem::TooLarge { limit: self.limit });
        }
        self.ticket.grow(room)?;
        self.bytes.reserve_exact(room);
        Ok(room)
    }

    fn finish(mut self) -> Bytes {
        if self.bytes.capacity() / 2 > self.bytes.len() {
            self.bytes.shrink_to_fit();
        }
        self.ticket.shrink_to(self.bytes.capacity());
        Bytes::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::budget::{Budget, Share};
    use super::*;
    use crate::runtime::NO_PAUSE;

    const LIMIT: usize = 100_000;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        zstd::encode_all(body, 1).unwrap()
    }

    fn zstd_sized(body: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(body, 1).unwrap()
    }

    type Pack = fn(&[u8]) -> Vec<u8>;
    const PACKS: [(Coding, Pack); 3] = [(Coding::Gzip, gzip), (Coding::Zstd, zstd), (Coding::Zstd, zstd_sized)];

    fn run(coding: Coding, body: Vec<u8>, budget: usize) -> Result<(Bytes, usize), Problem> {
        let budget = Budget::new(budget);
        let mut ticket = Share::new(&budget).ticket();
        ticket.grow(body.len()).unwrap();
        let out = inflate(coding, Bytes::from(body), LIMIT, &mut ticket, NO_PAUSE)?;
        Ok((out, ticket.bytes()))
    }

    #[test]
    fn the_limit_is_exact_for_every_coding() {
        for (coding, pack) in PACKS {
            for size in [0, 1, FIRST_PIECE, FIRST_PIECE + 1, 50_000, LIMIT - 1, LIMIT] {
                let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                let (out, held) = run(coding, pack(&body), 1 << 20).unwrap_or_else(|e| panic!("{coding:?} {size}: {e:?}"));
                assert_eq!(out, body, "{coding:?} {size}");
                assert!(held >= size && held <= 2 * size + FIRST_PIECE, "{coding:?} {size}: holds {held}");
            }
            let over = run(coding, pack(&vec![7; LIMIT + 1]), 1 << 20);
            assert_eq!(over.unwrap_err(), Problem::TooLarge { limit: LIMIT }, "{coding:?}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for (coding, pack) in PACKS {
            let bomb = pack(&vec![0; 30_000_000]);
            assert_eq!(run(coding, bomb, 1 << 26).unwrap_err(), Problem::TooLarge { limit: LIMIT }, "{coding:?}");
        }
    }

    #[test]
    fn what_swells_beyond_belief_stops_at_four_mebibytes() {
        const ROOM: usize = 64 << 20;
        let inflated = |coding, body: Vec<u8>| {
            let budget = Budget::new(ROOM);
            let mut ticket = Share::new(&budget).ticket();
            inflate(coding, Bytes::from(body), 20 << 20, &mut ticket, NO_PAUSE).map(|bytes| bytes.len())
        };
        for (coding, pack) in PACKS {
            assert_eq!(inflated(coding, pack(&vec![0; ANY_RATIO])), Ok(ANY_RATIO), "{coding:?}");
            let swollen = pack(&vec![0; ANY_RATIO + 1]);
            assert!(believable(swollen.len()) < ANY_RATIO);
            assert_eq!(inflated(coding, swollen), Err(Problem::Swollen { limit: ANY_RATIO }), "{coding:?}");
            // Every 200th byte cannot be foreseen.
            let dense: Vec<u8> =
                (0..6_u32 << 20).map(|at| if at % 200 == 0 { (at.wrapping_mul(2_654_435_761) >> 24) as u8 } else { 0 }).collect();
            assert_eq!(inflated(coding, pack(&dense)), Ok(dense.len()), "{coding:?}");
        }
    }

    #[test]
    fn a_few_bytes_that_announce_megabytes_get_no_room_for_them() {
        let mut frame = zstd_sized(&vec![0; 18 << 20]);
        // One block of it.
        frame.truncate(16);
        // Less than what is announced, more than what is made room for.
        let budget = Budget::new(1 << 20);
        let mut ticket = Share::new(&budget).ticket();
        let problem = inflate(Coding::Zstd, Bytes::from(frame), 20 << 20, &mut ticket, NO_PAUSE).unwrap_err();
        assert!(matches!(problem, Problem::Broken(_)), "{problem:?}");
        assert_eq!(announced(Coding::Zstd, &zstd_sized(&[7; 1_000])), Some(1_000));
        assert_eq!(announced(Coding::Zstd, &zstd_sized(&vec![7; 1 << 20])), None);
    }

    #[test]
    fn no_room_in_the_budget_is_told_as_such() {
        for (coding, pack) in PACKS {
            let problem = run(coding, pack(&[1; 90_000]), 60_000).unwrap_err();
            assert!(matches!(problem, Problem::OverBudget(_)), "{coding:?}: {problem:?}");
        }
    }

    #[test]
    fn several_members_are_one_body() {
        for (coding, pack) in [PACKS[0], PACKS[2]] {
            let both = [pack(b"one "), pack(b"two")].concat();
            assert_eq!(run(coding, both, 1 << 20).unwrap().0, "one two", "{coding:?}");
        }
    }

    #[test]
    fn cut_bodies_and_garbage_are_broken() {
        for (coding, pack) in PACKS {
            let good = pack(&[5; 1000]);
            for cut in 1..good.len() {
                let problem = run(coding, good[..cut].to_vec(), 1 << 20).unwrap_err();
                assert!(matches!(problem, Problem::Broken(_)), "{coding:?} cut to {cut}: {problem:?}");
            }
            let trailing = [good, b"garbage".to_vec()].concat();
            assert!(matches!(run(coding, trailing, 1 << 20), Err(Problem::Broken(_))), "{coding:?} with garbage behind");
            assert!(matches!(run(coding, b"plain text".to_vec(), 1 << 20), Err(Problem::Broken(_))), "{coding:?} of plain text");
        }
    }

    #[test]
    fn an_empty_body_is_empty_in_every_coding() {
        for (coding, _) in PACKS {
            assert_eq!(run(coding, Vec::new(), 100).unwrap(), (Bytes::new(), 0));
        }
    }

    #[test]
    fn names_of_codings() {
        for (name, expected) in [
            ("", Some(Coding::Identity)),
            ("identity", Some(Coding::Identity)),
            (" GZip ", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("zstd", Some(Coding::Zstd)),
            ("deflate", None),
            ("br", None),
            ("gzip, zstd", None),
        ] {
            assert_eq!(Coding::named(name), expected, "{name:?}");
        }
    }

    #[test]
    fn long_work_pauses() {
        thread_local!(static PAUSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
        for (coding, pack) in PACKS {
            PAUSES.set(0);
            let mut ticket = Share::new(&Budget::new(16 << 20)).ticket();
            inflate(coding, pack(&vec![7; 4 << 20]).into(), 4 << 20, &mut ticket, || PAUSES.set(PAUSES.get() + 1)).unwrap();
            let expected = (4 << 20) / PIECE;
            assert!((expected..expected + 16).contains(&PAUSES.get()), "{coding:?}: {} of {expected}", PAUSES.get());
        }
    }
}
