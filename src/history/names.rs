//! What culprits are called. Bounded: past it those told of longest ago lose their names.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{CulpritKey, Subject};

/// Most culprits with a name.
const MOST: usize = 4096;

/// Longest name kept, bytes; what is written onto a span is no longer.
const MAX_NAME_LEN: usize = 256;

#[derive(Debug)]
struct Named {
    name: Arc<str>,
    subject: Option<Subject>,
    told: u64,
}

/// The names of culprits.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_key: HashMap<u32, Named>,
    /// Bytes of all names.
    bytes: usize,
    told: u64,
}

impl Names {
    /// Names a culprit; `subject`: the container that it is.
    pub(super) fn tell(&mut self, key: CulpritKey, name: &str, subject: Option<Subject>) {
        if self.by_key.len() >= MOST && !self.by_key.contains_key(&key.0) {
            self.drop_oldest();
        }
        let name = name.get(..name.floor_char_boundary(MAX_NAME_LEN)).unwrap_or(name);
        self.told += 1;
        self.bytes += name.len();
        if let Some(former) = self.by_key.insert(key.0, Named { name: name.into(), subject, told: self.told }) {
            self.bytes -= former.name.len();
        }
    }

    fn drop_oldest(&mut self) {
        let mut told: Vec<u64> = self.by_key.values().map(|named| named.told).collect();
        told.sort_unstable();
        let since = told.get(told.len() / 4).copied().unwrap_or(0);
        self.by_key.retain(|_, named| named.told > since);
        self.bytes = self.by_key.values().map(|named| named.name.len()).sum();
    }

    pub(super) fn name(&self, key: u32) -> Option<&Arc<str>> {
        self.by_key.get(&key).map(|named| &named.name)
    }

    /// The numbers under which these run.
    pub(super) fn keys_of(&self, subjects: &[Subject]) -> Vec<u32> {
        let is_one = |named: &Named| named.subject.is_some_and(|subject| subjects.contains(&subject));
        self.by_key.iter().filter(|(_, named)| is_one(named)).map(|(key, _)| *key).collect()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.bytes + self.by_key.capacity() * (size_of::<(u32, Named)>() + 1) * 8 / 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ContainerKey;

    #[test]
    fn names_are_bounded_and_the_newest_stay() {
        let mut names = Names::default();
        for key in 0..10_000 {
            names.tell(CulpritKey(key), &"x".repeat(300), None);
            assert!(names.by_key.len() <= MOST);
        }
        assert_eq!((names.name(0), names.name(9_999).map(|name| name.len())), (None, Some(256)));
        assert!(names.heap() < 2 << 20, "{}", names.heap());
        assert_eq!(names.bytes, names.by_key.len() * 256);
    }

    #[test]
    fn the_last_name_holds_and_tells_who_it_is() {
        let mut names = Names::default();
        let subject = Subject::Container(ContainerKey(1));
        names.tell(CulpritKey(4), "before", None);
        names.tell(CulpritKey(4), "after", Some(subject));
        assert_eq!((names.name(4).map(|name| &**name), names.bytes, names.keys_of(&[subject])), (Some("after"), 5, vec![4]));
    }
}
