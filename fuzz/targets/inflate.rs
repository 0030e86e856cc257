//! Content codings within a limit.

use std::io::Write as _;

use bytes::Bytes;
use stallspan::ingest::budget::{Budget, Share};
use stallspan::ingest::inflate::{Coding, inflate as undo};
use stallspan::ingest::problem::Problem;

/// Bytes of all requests together.
const BUDGET: usize = 1 << 20;

/// Any bytes in any coding stay within the limit and the budget; what was coded comes back as it was, or is too large.
pub fn inflate(data: &[u8]) {
    let (first, data) = data.split_first().unwrap_or((&0, data));
    let coding = [Coding::Gzip, Coding::Zstd, Coding::Identity, Coding::Identity][usize::from(first % 4)];
    let limit = 1 << (first >> 2 & 0xf);
    let small = data.get(..data.len().min(limit)).unwrap_or_default();
    let told = undone(coding, small, limit);
    if let Ok(bytes) = &told {
        assert!(bytes.len() <= limit, "{} bytes, {limit} are allowed", bytes.len());
    }
    let told = undone(coding, &coded(coding, data), limit);
    match told {
        Ok(bytes) => assert_eq!(bytes, data),
        Err(Problem::TooLarge { .. }) => assert!(data.len() > limit || coding == Coding::Identity),
        Err(problem) => panic!("{problem:?}"),
    }
}

fn undone(coding: Coding, body: &[u8], limit: usize) -> Result<Bytes, Problem> {
    let budget = Budget::new(BUDGET);
    let mut ticket = Share::new(&budget).ticket();
    ticket.grow(body.len())?;
    let told = undo(coding, Bytes::copy_from_slice(body), limit, &mut ticket, || ());
    if let Ok(bytes) = &told {
        assert!(budget.used() >= bytes.len(), "{} bytes held, {} came out", budget.used(), bytes.len());
    }
    drop(ticket);
    assert_eq!(budget.used(), 0);
    told
}

fn coded(coding: Coding, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Identity => out.extend(data),
        Coding::Gzip => flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast()).write_all(data).unwrap(),
        Coding::Zstd => out = zstd::stream::encode_all(data, 1).unwrap(),
    }
    out
}
