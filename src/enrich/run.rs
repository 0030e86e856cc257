//! The run of attributes that a span gets, as bytes.
//!
//! From span to span mostly the numbers change, not which of them are known nor the words: so the last run is kept, and
//! while its shape fits, only its doubles are written anew.

use super::measure::{DOUBLES, Measures};
use crate::model::{Evidence, Scope, Verdict};
use crate::otlp::attribute::{SPAN_ATTRIBUTE_TAG, push_double, push_text};
use crate::otlp::names;

/// A run is never shorter: `scope`, `source`, `coverage`, `resolution` and `verdict` are always written.
pub(super) const MIN_LEN: usize = 128;

/// Most runs are not longer.
const TYPICAL_LEN: usize = 1024;

/// Everything of a run but its doubles.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    known: u32,
    scope: Scope,
    evidence: Evidence,
    verdict: Verdict,
}

/// The last run written.
#[derive(Debug, Default)]
pub(super) struct Run {
    shape: Option<Shape>,
    culprit: String,
    has_culprit: bool,
    bytes: Vec<u8>,
    /// Where the doubles stand in `bytes`, by their index in [`DOUBLES`].
    slots: [usize; DOUBLES.len()],
}

impl Run {
    /// Length of the last run, a guess at the next one's.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The run of these measures.
    #[inline]
    pub(super) fn render(&mut self, measures: &Measures<'_>) -> &[u8] {
        let Measures { scope, evidence, verdict, culprit, known, .. } = *measures;
        let shape = Shape { known, scope, evidence, verdict };
        let same_culprit = self.has_culprit == culprit.is_some() && culprit.is_none_or(|name| name == self.culprit);
        if same_culprit && self.shape.as_ref() == Some(&shape) {
            self.patch(measures);
        } else {
            self.rebuild(shape, measures);
        }
        &self.bytes
    }

    fn patch(&mut self, measures: &Measures<'_>) {
        let mut left = measures.known;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            left &= left - 1;
            if let (Some(value), Some(slot)) = (measures.doubles.get(index), self.slots.get(index))
                && let Some(room) = self.bytes.get_mut(*slot..).and_then(<[u8]>::first_chunk_mut)
            {
                *room = value.to_le_bytes();
            }
        }
    }

    #[cold]
    fn rebuild(&mut self, shape: Shape, measures: &Measures<'_>) {
        self.bytes.clear();
        self.bytes.reserve(TYPICAL_LEN);
        let words = [(names::SCOPE, shape.scope.word()), (names::SOURCE, shape.evidence.word()), (names::VERDICT, shape.verdict.word())];
        for (name, word) in words {
            push_text(&mut self.bytes, SPAN_ATTRIBUTE_TAG, name.key, word);
        }
        if let Some(culprit) = measures.culprit {
            push_text(&mut self.bytes, SPAN_ATTRIBUTE_TAG, names::CULPRIT_NAME.key, culprit);
        }
        for (index, ((name, value), slot)) in DOUBLES.iter().zip(measures.doubles).zip(&mut self.slots).enumerate() {
            if shape.known & 1 << index != 0 {
                push_double(&mut self.bytes, SPAN_ATTRIBUTE_TAG, name.key, value);
                *slot = self.bytes.len() - 8;
            }
        }
        self.has_culprit = measures.culprit.is_some();
        self.culprit.clear();
        self.culprit.push_str(measures.culprit.unwrap_or_default());
        self.shape = Some(shape);
    }
}
