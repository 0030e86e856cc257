//! The fuzz targets on what fuzzing found worth keeping: every file of `fuzz/corpus`, whole, cut, and with bytes changed.
//!
//! Fuzzing itself is `make fuzz`. This holds its findings, and finds what is easy to find.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a test: a panic is how it fails"
)]

#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Variants of a file that are tried beside itself.
const VARIANTS: usize = 24;

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // Marsaglia's xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn files(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        folder.read_dir().unwrap_or_else(|e| panic!("{}: {e}", folder.display())).map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Cut, or some bytes set, doubled or left out.
fn variant(whole: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    if dice.below(4) == 0 {
        bytes.truncate(dice.below(whole.len() + 1));
    }
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match (dice.below(4), bytes.get(at)) {
            (_, None) => {}
            (0, Some(byte)) => bytes.insert(at, *byte),
            (1, Some(_)) => drop(bytes.remove(at)),
            (2, Some(byte)) => bytes[at] = byte ^ 1 << dice.below(8),
            (_, Some(_)) => bytes[at] = dice.below(256) as u8,
        }
    }
    bytes
}

/// What broke, if anything: the first input that does of this target.
fn finding(name: &str, target: targets::Target) -> Option<String> {
    let files = files(name);
    assert!(!files.is_empty(), "{name} has no corpus");
    for file in files {
        let whole = std::fs::read(&file).unwrap();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ whole.len() as u64);
        let variants: Vec<Vec<u8>> = (0..VARIANTS).map(|_| variant(&whole, &mut dice)).collect();
        for bytes in std::iter::once(&whole).chain(&variants) {
            if catch_unwind(|| target(bytes)).is_err() {
                let escaped: String = bytes.iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
                return Some(format!("{name}, from {}: b\"{escaped}\"", file.display()));
            }
        }
    }
    None
}

#[test]
fn every_target_holds_on_its_corpus() {
    let findings: Vec<String> = targets::ALL.into_iter().filter_map(|(name, target)| finding(name, target)).collect();
    assert!(findings.is_empty(), "{findings:#?}");
}
