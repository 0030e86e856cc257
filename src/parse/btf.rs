//! The kernel's description of its own types (`/sys/kernel/btf/vmlinux`, Documentation/bpf/btf.rst): which members a
//! struct has, what an enumerator is worth, which arguments a tracepoint passes.

const MAGIC: u16 = 0xeb9f;
/// Anonymous structs and unions inside one another, typedefs and qualifiers in a row.
const DEPTH: u32 = 8;
/// Members looked at for one question; the largest struct of a kernel has a few hundred. Without it, structs that hold
/// themselves unnamed a few times over would keep us busy for ever.
const MOST_MEMBERS: u32 = 1 << 16;

const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNC_PROTO: u32 = 13;
const POINTER: u32 = 2;

/// What does not make sense as BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfProblem {
    /// Too short, another byte order, or another format.
    #[error("no BTF of this machine's byte order")]
    Header,
    /// A kind that this version does not know: the length of what follows cannot be told.
    #[error("type {id} is of the unknown kind {kind}")]
    Kind {
        /// Number of the type.
        id: usize,
        /// Number of the kind.
        kind: u32,
    },
    /// The types end in the middle of one.
    #[error("cut short")]
    Cut,
}

/// One argument of a function type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument<'a> {
    /// Pointer to a struct.
    Struct(&'a str),
    /// Anything else.
    Other,
}

/// Types of a kernel.
#[derive(Debug)]
pub struct KernelTypes<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where type `index + 1` begins.
    offsets: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    info: u32,
    size_or_type: u32,
    rest: &'a [u8],
}

impl Type<'_> {
    const fn kind(&self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    const fn len(&self) -> u32 {
        self.info & 0xffff
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

fn usize_of(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Bytes after the common twelve.
fn trailing(kind: u32, len: u32) -> Option<usize> {
    let len = usize_of(len);
    Some(match kind {
        1 | 14 | 17 => 4,
        ARRAY => 12,
        STRUCT | UNION | 15 | 19 => len * 12,
        ENUM | FUNC_PROTO => len * 8,
        POINTER | TYPEDEF | 7 | 9..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

impl<'a> KernelTypes<'a> {
    /// Finds where each type begins; reads nothing else yet.
    pub fn read(bytes: &'a [u8]) -> Result<Self, BtfProblem> {
        let magic = bytes.first_chunk().map(|two| u16::from_ne_bytes(*two));
        if magic != Some(MAGIC) {
            return Err(BtfProblem::Header);
        }
        let word = |at| u32_at(bytes, at).map(usize_of).ok_or(BtfProblem::Header);
        let body = bytes.get(word(4)?..).ok_or(BtfProblem::Header)?;
        let section = |from: usize, len: usize| body.get(from..from.saturating_add(len)).ok_or(BtfProblem::Cut);
        let types = section(word(8)?, word(12)?)?;
        let strings = section(word(16)?, word(20)?)?;
        let mut offsets = Vec::new();
        let mut at = 0;
        while at < types.len() {
            let info = u32_at(types, at + 4).ok_or(BtfProblem::Cut)?;
            let kind = (info >> 24) & 0x1f;
            let more = trailing(kind, info & 0xffff).ok_or(BtfProblem::Kind { id: offsets.len() + 1, kind })?;
            offsets.push(u32::try_from(at).map_err(|_| BtfProblem::Cut)?);
            at += 12 + more;
        }
        if at > types.len() {
            return Err(BtfProblem::Cut);
        }
        Ok(Self { types, strings, offsets })
    }

    /// Whether a struct of this name has this member, directly or in an unnamed struct or union.
    #[must_use]
    pub fn has_member(&self, structure: &str, member: &str) -> bool {
        let mut left = MOST_MEMBERS;
        self.named(STRUCT, structure).any(|found| self.member_inside(found, member, DEPTH, &mut left))
    }

    /// The value of an enumerator.
    #[must_use]
    pub fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        self.named(ENUM, of).find_map(|found| self.pairs(found, 8).find_map(|(known, value)| (self.text(known) == name).then_some(value)))
    }

    /// Arguments that a tracepoint passes to a program: those of `btf_trace_NAME` without the first, which is private.
    /// `None`: the kernel has no such tracepoint.
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<Vec<Argument<'a>>> {
        let typedef = self.named(TYPEDEF, &format!("btf_trace_{name}")).next()?;
        let pointer = self.get(typedef.size_or_type).filter(|found| found.kind() == POINTER)?;
        let function = self.get(pointer.size_or_type).filter(|found| found.kind() == FUNC_PROTO)?;
        Some(self.pairs(function, 8).skip(1).map(|(_, argument)| self.argument(argument)).collect())
    }

    fn argument(&self, id: u32) -> Argument<'a> {
        let pointed = self.unqualified(id).filter(|found| found.kind() == POINTER).and_then(|found| self.unqualified(found.size_or_type));
        match pointed {
            Some(found) if found.kind() == STRUCT => Argument::Struct(self.text(found.name)),
            _ => Argument::Other,
        }
    }

    /// The type itself, behind typedefs and qualifiers.
    fn unqualified(&self, id: u32) -> Option<Type<'a>> {
        let mut found = self.get(id)?;
        for _ in 0..DEPTH {
            if !matches!(found.kind(), TYPEDEF | 9..=11 | 18) {
                return Some(found);
            }
            found = self.get(found.size_or_type)?;
        }
        None
    }

    fn member_inside(&self, structure: Type<'a>, member: &str, depth: u32, left: &mut u32) -> bool {
        self.pairs(structure, 12).any(|(name, inner)| {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return false;
            }
            if name != 0 {
                return self.text(name) == member;
            }
            let unnamed = self.get(inner).filter(|inner| matches!(inner.kind(), STRUCT | UNION) && depth > 0);
            unnamed.is_some_and(|inner| self.member_inside(inner, member, depth - 1, left))
        })
    }

    /// The first two words of each entry behind a type: name and type, or name and value.
    fn pairs(&self, of: Type<'a>, stride: usize) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        of.rest.chunks_exact(stride).take(usize_of(of.len())).filter_map(|entry| Some((u32_at(entry, 0)?, u32_at(entry, 4)?)))
    }

    fn named(&self, kind: u32, name: &str) -> impl Iterator<Item = Type<'a>> {
        self.offsets.iter().filter_map(|at| self.at(*at)).filter(move |found| found.kind() == kind && self.text(found.name) == name)
    }

    fn get(&self, id: u32) -> Option<Type<'a>> {
        self.at(*self.offsets.get(usize_of(id).checked_sub(1)?)?)
    }

    fn at(&self, offset: u32) -> Option<Type<'a>> {
        let bytes = self.types.get(usize_of(offset)..)?;
        Some(Type { name: u32_at(bytes, 0)?, info: u32_at(bytes, 4)?, size_or_type: u32_at(bytes, 8)?, rest: bytes.get(12..)? })
    }

    /// Names that are no text are empty: they equal nothing that is asked for.
    fn text(&self, at: u32) -> &'a str {
        let bytes = self.strings.get(usize_of(at)..).unwrap_or_default();
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
        bytes.get(..len).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Builds BTF by hand: each type is its words, names are put into the string table.
    #[derive(Default)]
    struct Built {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Built {
        fn name(&mut self, text: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if text.is_empty() {
                return 0;
            }
            let at = self.strings.len() as u32;
            self.strings.extend(text.bytes());
            self.strings.push(0);
            at
        }

        fn put(&mut self, name: &str, kind: u32, len: u32, last: u32, entries: &[(&str, &[u32])]) {
            let name = self.name(name);
            let mut words = vec![name, kind << 24 | len, last];
            for (name, more) in entries {
                words.push(self.name(name));
                words.extend(*more);
            }
            self.types.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        }

        fn bytes(&self) -> Vec<u8> {
            let mut out = Vec::new();
            out.extend(MAGIC.to_ne_bytes());
            out.extend([1, 0]);
            for word in [24, 0, self.types.len(), self.types.len(), self.strings.len()] {
                out.extend((word as u32).to_ne_bytes());
            }
            out.extend(&self.types);
            out.extend(&self.strings);
            out
        }
    }

    fn kernel() -> Vec<u8> {
        let mut built = Built::default();
        built.put("task_struct", STRUCT, 2, 8, &[("on_rq", &[0, 0]), ("", &[2, 32])]);
        built.put("", UNION, 1, 8, &[("throttled", &[0, 0])]);
        built.put("", POINTER, 0, 1, &[]);
        built.put("", 10, 0, 1, &[]); // const task_struct
        built.put("", POINTER, 0, 4, &[]);
        built.put("", FUNC_PROTO, 4, 0, &[("", &[0]), ("", &[7]), ("", &[3]), ("", &[5])]);
        built.put("bool", 1, 0, 1, &[]);
        built.types.extend(8_u32.to_ne_bytes());
        built.put("", POINTER, 0, 6, &[]);
        built.put("btf_trace_sched_switch", TYPEDEF, 0, 8, &[]);
        built.put("cgroup_subsys_id", ENUM, 2, 4, &[("cpuset_cgrp_id", &[0]), ("cpu_cgrp_id", &[1])]);
        built.bytes()
    }

    #[test]
    fn members_enumerators_and_arguments_are_found() {
        let bytes = kernel();
        let types = KernelTypes::read(&bytes).unwrap();
        assert!(types.has_member("task_struct", "on_rq"));
        assert!(types.has_member("task_struct", "throttled"));
        assert!(!types.has_member("task_struct", "__state"));
        assert!(!types.has_member("rq", "on_rq"));
        assert_eq!(types.enumerator("cgroup_subsys_id", "cpu_cgrp_id"), Some(1));
        assert_eq!(types.enumerator("cgroup_subsys_id", "io_cgrp_id"), None);
        let task = Argument::Struct("task_struct");
        assert_eq!(types.tracepoint("sched_switch"), Some(vec![Argument::Other, task, task]));
        assert_eq!(types.tracepoint("sched_wakeup"), None);
    }

    #[test]
    fn structs_that_hold_themselves_are_looked_at_for_a_while() {
        let mut built = Built::default();
        built.put("s", STRUCT, 16, 8, &[("", &[1, 0][..]); 16]);
        built.put("s", STRUCT, 1, 8, &[("wanted", &[0, 0])]);
        assert!(!KernelTypes::read(&built.bytes()).unwrap().has_member("s", "other"));
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        fn check(change: impl Fn(&mut Vec<u8>), expected: BtfProblem) {
            let mut bytes = kernel();
            change(&mut bytes);
            assert_eq!(KernelTypes::read(&bytes).err(), Some(expected));
        }
        check(Vec::clear, BtfProblem::Header);
        check(|bytes| bytes.swap(0, 1), BtfProblem::Header);
        check(|bytes| bytes.truncate(20), BtfProblem::Header);
        check(|bytes| bytes.truncate(200), BtfProblem::Cut);
        check(|bytes| bytes[24 + 7] = 31, BtfProblem::Kind { id: 1, kind: 31 });
        check(|bytes| bytes[12] -= 4, BtfProblem::Cut);
    }

    #[test]
    fn the_kernel_that_runs_is_understood() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let types = KernelTypes::read(&bytes).unwrap();
        assert!(types.has_member("task_struct", "sched_info"));
        assert!(types.tracepoint("sched_switch").unwrap().contains(&Argument::Struct("task_struct")));
    }

    proptest! {
        /// Words changed, and bytes cut, never make a panic or a loop.
        #[test]
        fn damaged_btf_never_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![0_u32..400, any::<u32>(), Just(u32::MAX)]), 0..4),
            cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        ) {
            let mut bytes = kernel();
            for (at, value) in changes {
                let at = at.index(bytes.len() / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            if let Ok(types) = KernelTypes::read(&bytes) {
                let _ = types.has_member("task_struct", "nothing");
                let _ = types.tracepoint("sched_switch");
                let _ = types.enumerator("cgroup_subsys_id", "nothing");
            }
        }
    }
}
