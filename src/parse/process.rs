//! `/proc/PID/stat` and `/proc/PID/status` (fs/proc/array.c).

use super::text::{lines, number, number32, shown, words};

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;
/// `PF_EXITING`: set before taskstats tells of the exit (kernel/exit.c).
const EXITING: u32 = 4;
/// Longest command name shown; the kernel's worker names reach 64 bytes.
const COMM_LIMIT: usize = 64;

/// What `/proc/PID/stat` says of a process (of its main thread, but for the thread count).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStat {
    /// Thread (group) id in the pid namespace of the procfs mount.
    pub pid: u32,
    /// Command name, any bytes.
    pub comm: Vec<u8>,
    /// State letter.
    pub state: u8,
    /// Parent.
    pub ppid: u32,
    /// `PF_*` flags.
    pub flags: u32,
    /// Threads alive.
    pub num_threads: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

impl ProcessStat {
    /// Whether it has no user space.
    #[must_use]
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Whether the main thread is dead; other threads may live.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether the main thread is ending or dead.
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0 || self.is_zombie()
    }

    /// The command name for people: escaped and bounded.
    #[must_use]
    pub fn comm_text(&self) -> String {
        shown(&self.comm, COMM_LIMIT)
    }
}

/// Why a text is no `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatError {
    /// No `(comm)`.
    #[error("stat has no command name in parentheses")]
    NoComm,
    /// Cut before this field (numbered as in proc(5)).
    #[error("stat has no field {0}")]
    Missing(u8),
    /// This field is no number, or does not fit.
    #[error("stat field {0} is not a number that fits")]
    NotANumber(u8),
}

/// Reads `/proc/PID/stat`. The command name may hold blanks, parentheses and newlines: it ends at the **last** `)`.
pub fn process_stat(text: &[u8]) -> Result<ProcessStat, StatError> {
    let open = text.iter().position(|byte| *byte == b'(').ok_or(StatError::NoComm)?;
    let close = text.iter().rposition(|byte| *byte == b')').ok_or(StatError::NoComm)?;
    let comm = text.get(open.saturating_add(1)..close).ok_or(StatError::NoComm)?;
    let head = text.get(..open).ok_or(StatError::NoComm)?;
    let tail = text.get(close.saturating_add(1)..).ok_or(StatError::NoComm)?;

    let pid = words(head).next().ok_or(StatError::Missing(1))?;
    let mut stat = ProcessStat { pid: number32(pid).ok_or(StatError::NotANumber(1))?, comm: comm.to_vec(), ..ProcessStat::default() };
    let mut fields = Fields { words: words(tail), next: 3 };
    stat.state = fields.skip_to(3)?.first().copied().ok_or(StatError::Missing(3))?;
    // A process adopted from outside the pid namespace has parent 0.
    stat.ppid = fields.number32(4)?;
    stat.flags = fields.number32(9)?;
    stat.num_threads = fields.number32(20)?;
    stat.start_ticks = fields.number(22)?;
    Ok(stat)
}

/// Walks the fields behind the name by their numbers in proc(5).
struct Fields<I> {
    words: I,
    next: u8,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Fields<I> {
    fn skip_to(&mut self, field: u8) -> Result<&'a [u8], StatError> {
        let skip = usize::from(field.saturating_sub(self.next));
        self.next = field.saturating_add(1);
        self.words.nth(skip).ok_or(StatError::Missing(field))
    }

    fn number(&mut self, field: u8) -> Result<u64, StatError> {
        number(self.skip_to(field)?).ok_or(StatError::NotANumber(field))
    }

    fn number32(&mut self, field: u8) -> Result<u32, StatError> {
        number32(self.skip_to(field)?).ok_or(StatError::NotANumber(field))
    }
}

/// What `/proc/PID/status` says about ids and rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStatus {
    /// `Tgid`: the process of a thread.
    pub tgid: Option<u32>,
    /// `NSpid`: the thread's ids, outermost namespace first. Empty before 4.1.
    pub ns_pids: Vec<u32>,
    /// `NStgid`: the process's ids, outermost namespace first.
    pub ns_tgids: Vec<u32>,
    /// `CapEff`
    pub effective: Option<u64>,
    /// `Cpus_allowed`: a bit per CPU, the lowest word first; empty where it is not told.
    pub cpus_allowed: Vec<u32>,
}

/// Most pid namespaces nest this deep (`MAX_PID_NS_LEVEL`, include/linux/pid_namespace.h), the initial one included.
const NAMESPACE_LEVELS: usize = 33;

/// Reads `/proc/PID/status`. The name line comes first and is escaped by the kernel, so a name cannot forge a line.
#[must_use]
pub fn process_status(text: &[u8]) -> ProcessStatus {
    let mut status = ProcessStatus::default();
    for line in lines(text) {
        let mut words = words(line);
        match words.next() {
            Some(b"Tgid:") => status.tgid = words.next().and_then(number32),
            Some(b"NSpid:") => status.ns_pids = ids(words),
            Some(b"NStgid:") => status.ns_tgids = ids(words),
            Some(b"Cpus_allowed:") => status.cpus_allowed = words.next().and_then(cpu_mask).unwrap_or_default(),
            Some(b"CapEff:") => status.effective = words.next().and_then(hex),
            _ => {}
        }
    }
    status
}

/// A list of ids; one that cannot be read makes the whole list unknown, for its position is its meaning.
fn ids<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<u32> {
    words.take(NAMESPACE_LEVELS).map(number32).collect::<Option<Vec<u32>>>().unwrap_or_default()
}

/// Words of 32 bits in hexadecimal, the highest first, with commas between (`bitmap_print_to_pagebuf`, lib/bitmap-str.c).
fn cpu_mask(word: &[u8]) -> Option<Vec<u32>> {
    let mask = std::str::from_utf8(word).ok()?.split(',').take(CPU_WORDS).map(|word| u32::from_str_radix(word, 16).ok());
    let mut mask = mask.collect::<Option<Vec<u32>>>()?;
    mask.reverse();
    Some(mask)
}

/// Words of the largest mask: 8192 CPUs (`NR_CPUS` on x86).
const CPU_WORDS: usize = 256;

fn hex(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = "S 1 42 42 0 -1 4194304 98 0 0 0 5 6 0 0 20 0 7 0 96110 3133440 414 18446744073709551615 1 1 0\n";

    #[test]
    fn the_name_ends_at_the_last_parenthesis() {
        fn check(comm: &[u8]) {
            let mut text = b"42 (".to_vec();
            text.extend_from_slice(comm);
            text.extend_from_slice(b") ");
            text.extend_from_slice(TAIL.as_bytes());
            let stat = process_stat(&text).unwrap();
            assert_eq!((stat.pid, stat.comm.as_slice(), stat.ppid), (42, comm, 1));
            assert_eq!((stat.num_threads, stat.start_ticks, stat.state), (7, 96_110, b'S'));
        }
        check(b"cat");
        check(b"");
        check(b"a b");
        check(b") S 1 1 (");
        check(b"(sd-pam)");
        check(b"x\ny");
        check(b"\xff\xfe)");
    }

    #[test]
    fn a_stat_cut_short_says_where() {
        fn check(text: &str, expected: StatError) {
            assert_eq!(process_stat(text.as_bytes()), Err(expected), "{text:?}");
        }
        check("", StatError::NoComm);
        check("42 (cat", StatError::NoComm);
        check(")(", StatError::NoComm);
        check("42 (cat)", StatError::Missing(3));
        check("(cat) S 1", StatError::Missing(1));
        check("x (cat) S 1", StatError::NotANumber(1));
        check("42 (cat) S 1 42 42 0 -1 4194304 98 0", StatError::Missing(20));
        check("42 (cat) S 99999999999", StatError::NotANumber(4));
        check("42 (c) S 1 4 4 0 -1 0 9 0 0 0 5 6 0 0 20 0 7 0 99999999999999999999", StatError::NotANumber(22));
    }

    #[test]
    fn kernel_threads_and_zombies_are_told() {
        let stat = process_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0\n").unwrap();
        assert!(stat.is_kernel_thread() && !stat.is_zombie());
        let stat = process_stat(b"9 (gone) Z 1 9 9 0 -1 4228108 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0\n").unwrap();
        assert!(!stat.is_kernel_thread() && stat.is_zombie() && stat.is_exiting());
        let stat = process_stat(b"9 (going) R 1 9 9 0 -1 4228108 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0\n").unwrap();
        assert!(!stat.is_zombie() && stat.is_exiting());
    }

    #[test]
    fn ids_in_nested_namespaces_come_outermost_first() {
        fn check(text: &str, tgid: Option<u32>, ns_pids: &[u32]) {
            let status = process_status(text.as_bytes());
            assert_eq!((status.tgid, status.ns_pids.as_slice()), (tgid, ns_pids), "{text:?}");
        }
        check("Name:\tcat\nTgid:\t77\nNSpid:\t77\t12\t1\n", Some(77), &[77, 12, 1]);
        check("Name:\tcat\nTgid:\t77\nNgid:\t0\n", Some(77), &[]);
        check("Name:\tx\\nNSpid:\t1\nNSpid:\t5\n", None, &[5]);
        check("NSpid:\t77\tx\n", None, &[]);
        check("NSpid:\t99999999999\n", None, &[]);
        check("NSpid:", None, &[]);
        check("", None, &[]);
        assert_eq!(process_status(b"CapEff:\t000001fffeffffff\n").effective, Some(0x1ff_feff_ffff));
        assert_eq!(process_status(b"CapEff:\tzz\n").effective, None);
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(
            prop_oneof![Just(b' '), Just(b'('), Just(b')'), Just(b'\n'), b'0'..=b'9', any::<u8>()], 0..160)) {
            let _ = process_stat(&text);
            let _ = process_status(&text);
        }

        #[test]
        fn any_prefix_is_an_error_or_the_truth(comm in "[ -~]{0,15}", cut in 0usize..140) {
            let whole = format!("42 ({comm}) {TAIL}");
            let start_ends = whole.len() - TAIL.len() + TAIL.find(" 3133440").unwrap();
            let cut = cut.min(whole.len());
            if let Ok(stat) = process_stat(&whole.as_bytes()[..cut]) {
                // A number cut in its middle is only told from a whole one by what follows.
                prop_assert!(cut >= start_ends - 4);
                prop_assert_eq!(stat.num_threads, 7);
            }
        }
    }
}
