//! Processes and threads under the procfs root.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::model::{ProcessKey, TaskKey};
use crate::parse::process::{ProcessStat, ProcessStatus, process_stat, process_status};
use crate::parse::schedstat::{Schedstat, schedstat};

use super::error::{ErrorClass, HostError, Place};
use super::files::{Root, SMALL, Walk, entries, open_dir_in, open_in, read_kept};

/// `schedstat` is three numbers of at most 20 digits.
const SCHEDSTAT_LEN: usize = 128;
/// `stat`: 52 numbers and a name.
const STAT_LEN: usize = 2048;
/// A process or thread id, and the name of a file.
const PATH_LEN: usize = 32;
/// Threads listed of one process: more than the kernel's default limit for the whole system.
const THREAD_LIMIT: usize = 1 << 18;
/// Processes listed: the largest `kernel.pid_max`.
const PROCESS_LIMIT: usize = 1 << 22;

/// A process that pid reuse cannot confuse: one file of it is kept open, which answers ESRCH once it is gone,
/// whoever has its pid then.
#[derive(Debug)]
pub struct ProcessHandle {
    key: ProcessKey,
    born: ProcessStat,
    kept: Kept,
}

/// A thread, by the same rule.
#[derive(Debug)]
pub struct ThreadHandle {
    key: TaskKey,
    kept: Kept,
}

#[derive(Debug)]
struct Kept {
    fd: OwnedFd,
    id: u32,
    /// Without `CONFIG_SCHED_INFO` there is no schedstat, and `stat` is kept in its place.
    is_schedstat: bool,
}

impl Kept {
    fn open(proc: &Root, id: u32, directory: &str) -> Result<Self, HostError> {
        let (fd, is_schedstat) = match proc.open_file(&format!("{directory}/schedstat")) {
            Err(Errno::NOENT) => (proc.open_file(&format!("{directory}/stat")), false),
            other => (other, true),
        };
        Ok(Self { fd: fd.map_err(|errno| HostError::process(id, errno))?, id, is_schedstat })
    }

    fn alive(&self) -> bool {
        read_kept(&self.fd, &mut [0; STAT_LEN]).is_ok_and(|text| !text.is_empty())
    }

    fn schedstat(&self) -> Result<Schedstat, HostError> {
        if !self.is_schedstat {
            return Err(HostError::new(ErrorClass::Unsupported, Place::Process(self.id)));
        }
        read_schedstat(&self.fd, self.id)
    }
}

fn read_schedstat(fd: &OwnedFd, id: u32) -> Result<Schedstat, HostError> {
    let mut buffer = [0; SCHEDSTAT_LEN];
    let text = read_kept(fd, &mut buffer).map_err(|errno| HostError::process(id, errno))?;
    schedstat(text).map_err(|_| HostError::malformed(Place::Process(id)))
}

impl ProcessHandle {
    /// Which process.
    #[must_use]
    pub const fn key(&self) -> ProcessKey {
        self.key
    }

    /// What `/proc/PID/stat` said when the handle was made.
    #[must_use]
    pub const fn born(&self) -> &ProcessStat {
        &self.born
    }

    /// Whether it is still there (a zombie is). Asked *after* a taskstats query: `true` means that the answer was about
    /// this process.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.kept.alive()
    }

    /// Totals of the **main thread only**.
    pub fn main_schedstat(&self) -> Result<Schedstat, HostError> {
        self.kept.schedstat()
    }
}

impl ThreadHandle {
    /// Which thread.
    #[must_use]
    pub const fn key(&self) -> TaskKey {
        self.key
    }

    /// Its totals.
    pub fn schedstat(&self) -> Result<Schedstat, HostError> {
        self.kept.schedstat()
    }
}

/// Opens a process and makes sure that what was read is all about the same one.
pub(super) fn attach(proc: &Root, pid: u32) -> Result<ProcessHandle, HostError> {
    let kept = Kept::open(proc, pid, &pid.to_string())?;
    let born = stat(proc, pid)?;
    // The file opened first still answers: between the two the pid was not given to another.
    if !kept.alive() {
        return Err(HostError::new(ErrorClass::Gone, Place::Process(pid)));
    }
    Ok(ProcessHandle { key: ProcessKey { pid, start_ticks: born.start_ticks }, born, kept })
}

/// The same for a thread.
pub(super) fn attach_thread(proc: &Root, pid: u32, tid: u32) -> Result<ThreadHandle, HostError> {
    let directory = format!("{pid}/task/{tid}");
    let kept = Kept::open(proc, tid, &directory)?;
    let text = proc.read_process(tid, &format!("{directory}/stat"), SMALL)?;
    let stat = process_stat(&text).map_err(|_| HostError::malformed(Place::Process(tid)))?;
    if !kept.alive() {
        return Err(HostError::new(ErrorClass::Gone, Place::Process(tid)));
    }
    Ok(ThreadHandle { key: TaskKey { tid, start_ticks: stat.start_ticks }, kept })
}

pub(super) fn stat(proc: &Root, pid: u32) -> Result<ProcessStat, HostError> {
    let text = proc.read_process(pid, &format!("{pid}/stat"), SMALL)?;
    process_stat(&text).map_err(|_| HostError::malformed(Place::Process(pid)))
}

/// `directory` is `PID` or `PID/task/TID`.
pub(super) fn status(proc: &Root, id: u32, directory: &str) -> Result<ProcessStatus, HostError> {
    Ok(process_status(&proc.read_process(id, &format!("{directory}/status"), SMALL)?))
}

/// Process ids, ascending.
pub(super) fn pids(proc: &Root, into: &mut Vec<u32>) -> Result<(), HostError> {
    let dir = proc.open_dir(".").map_err(|errno| HostError::file(proc.path(""), errno))?;
    numbers(&dir, into, PROCESS_LIMIT).map_err(|errno| HostError::file(proc.path(""), errno))
}

/// Thread ids of a process, ascending.
pub(super) fn thread_ids(proc: &Root, pid: u32, into: &mut Vec<u32>) -> Result<(), HostError> {
    let dir = proc.open_dir(&format!("{pid}/task")).map_err(|errno| HostError::process(pid, errno))?;
    numbers(&dir, into, THREAD_LIMIT).map_err(|errno| HostError::process(pid, errno))
}

/// Totals of every thread alive. A thread that exits meanwhile is passed over; those that exited before are not in it.
pub(super) fn threads_schedstat(proc: &Root, pid: u32, mut each: impl FnMut(u32, Schedstat)) -> Result<(), HostError> {
    let fail = |errno| HostError::process(pid, errno);
    let mut space = [0; PATH_LEN];
    let task = short(&mut space, format_args!("{pid}/task")).and_then(|path| proc.open_dir_at(path)).map_err(fail)?;
    let (mut seen, mut refused) = (0_usize, None);
    entries(&task, |name, _| {
        let Some(tid) = number_of(name) else { return Walk::Go };
        seen = seen.saturating_add(1);
        match thread_schedstat(&task, name, tid) {
            Ok(totals) => each(tid, totals),
            Err(error) if error.is_gone() => {}
            Err(error) => refused = Some(error),
        }
        if seen < THREAD_LIMIT { Walk::Go } else { Walk::Stop }
    })
    .map_err(fail)?;
    refused.map_or(Ok(()), Err)
}

fn thread_schedstat(task: &OwnedFd, name: &[u8], tid: u32) -> Result<Schedstat, HostError> {
    let mut space = [0; PATH_LEN];
    let fd = match short(&mut space, format_args!("{tid}/schedstat")).and_then(|path| open_in(task, path)) {
        // The thread went, or the kernel has no schedstat at all.
        Err(Errno::NOENT) if open_dir_in(task, name).is_ok() => {
            return Err(HostError::new(ErrorClass::Unsupported, Place::Process(tid)));
        }
        other => other.map_err(|errno| HostError::process(tid, errno))?,
    };
    read_schedstat(&fd, tid)
}

/// A short path without allocation, for such run once a thread and tick.
fn short<'a>(space: &'a mut [u8; PATH_LEN], path: std::fmt::Arguments<'_>) -> Result<&'a [u8], Errno> {
    let mut rest = space.as_mut_slice();
    let written = rest.write_fmt(path);
    let left = rest.len();
    space.get(..PATH_LEN.saturating_sub(left)).filter(|_| written.is_ok()).ok_or(Errno::NAMETOOLONG)
}

fn numbers(dir: &OwnedFd, into: &mut Vec<u32>, limit: usize) -> Result<(), Errno> {
    into.clear();
    entries(dir, |name, _| {
        into.extend(number_of(name));
        if into.len() < limit { Walk::Go } else { Walk::Stop }
    })?;
    into.sort_unstable();
    Ok(())
}

fn number_of(name: &[u8]) -> Option<u32> {
    crate::parse::text::number32(name).filter(|id| *id > 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const STAT: &str = "S 1 42 42 0 -1 4194304 98 0 0 0 5 6 0 0 20 0 7 0 96110 3133440 414\n";

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let (dir, proc) = tree(&[("42/stat", &format!("42 (cat) {STAT}")), ("42/schedstat", "5 6 7\n")]);
        let handle = attach(&proc, 42).unwrap();
        assert_eq!(handle.key(), ProcessKey { pid: 42, start_ticks: 96_110 });
        assert_eq!(handle.main_schedstat().unwrap(), Schedstat { run_ns: 5, delay_ns: 6, timeslices: 7 });
        assert!(handle.alive());
        std::fs::write(dir.path().join("42/schedstat"), "broken").unwrap();
        assert_eq!(handle.main_schedstat().unwrap_err().class(), ErrorClass::Malformed);
    }

    #[test]
    fn without_schedstat_it_is_still_pinned() {
        let (_dir, proc) = tree(&[("42/stat", &format!("42 (cat) {STAT}"))]);
        let handle = attach(&proc, 42).unwrap();
        assert!(handle.alive());
        assert_eq!(handle.main_schedstat().unwrap_err().class(), ErrorClass::Unsupported);
        let mut threads = 0;
        assert!(threads_schedstat(&proc, 42, |_, _| threads += 1).unwrap_err().is_gone());
    }

    #[test]
    fn what_is_missing_or_damaged_is_told_apart() {
        fn check(proc: &Root, pid: u32, expected: ErrorClass) {
            assert_eq!(attach(proc, pid).unwrap_err().class(), expected, "{pid}");
        }
        let (_dir, proc) = tree(&[
            ("43/schedstat", "5 6 7\n"),
            ("44/schedstat", "5 6 7\n"),
            ("44/stat", "44 (x"),
            ("45/stat", ""),
            ("46/schedstat", ""),
            ("46/stat", &format!("46 (x) {STAT}")),
        ]);
        check(&proc, 42, ErrorClass::Gone);
        check(&proc, 43, ErrorClass::Gone);
        check(&proc, 44, ErrorClass::Malformed);
        check(&proc, 45, ErrorClass::Malformed);
        // The file that pins it does not answer any more: what stat said may be about a successor.
        check(&proc, 46, ErrorClass::Gone);
    }

    #[test]
    fn lists_hold_numbers_only_and_ascend() {
        let (_dir, proc) = tree(&[
            ("9/x", ""),
            ("10/task/12/x", ""),
            ("10/task/11/x", ""),
            ("self/x", ""),
            ("0/x", ""),
            ("99999999999/x", ""),
            ("stat", ""),
        ]);
        let mut ids = vec![1, 2, 3];
        pids(&proc, &mut ids).unwrap();
        assert_eq!(ids, [9, 10]);
        thread_ids(&proc, 10, &mut ids).unwrap();
        assert_eq!(ids, [11, 12]);
        assert!(thread_ids(&proc, 9, &mut ids).unwrap_err().is_gone());
    }

    #[test]
    fn threads_are_summed_by_the_caller() {
        let (_dir, proc) =
            tree(&[("10/task/10/schedstat", "1 2 3\n"), ("10/task/11/schedstat", "10 20 30\n"), ("10/task/junk/schedstat", "9 9 9\n")]);
        let mut seen = Vec::new();
        threads_schedstat(&proc, 10, |tid, totals| seen.push((tid, totals.run_ns, totals.delay_ns, totals.timeslices))).unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [(10, 1, 2, 3), (11, 10, 20, 30)]);
    }

    #[test]
    fn a_kernel_without_schedstat_is_told_and_not_taken_for_a_dead_thread() {
        let (_dir, proc) = tree(&[("10/task/10/stat", "")]);
        assert_eq!(threads_schedstat(&proc, 10, |_, _| ()).unwrap_err().class(), ErrorClass::Unsupported);
    }

    #[test]
    fn a_dead_child_is_gone_though_its_handle_is_kept() {
        let proc = Root::open(Path::new("/proc")).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let handle = attach(&proc, child.id()).unwrap();
        assert!(handle.alive());
        child.kill().unwrap();
        // A killed child is a zombie until it is waited for: still the same process.
        assert!(handle.alive());
        child.wait().unwrap();
        assert!(!handle.alive());
        assert!(handle.main_schedstat().is_err_and(|error| error.is_gone() || error.class() == ErrorClass::Unsupported));
        assert!(attach(&proc, child.id()).is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn own_threads_and_namespace_ids() {
        let proc = Root::open(Path::new("/proc")).unwrap();
        let pid = std::process::id();
        let mut ids = Vec::new();
        thread_ids(&proc, pid, &mut ids).unwrap();
        assert!(ids.contains(&pid));
        let own = status(&proc, pid, &pid.to_string()).unwrap();
        assert_eq!((own.tgid, own.ns_pids.first()), (Some(pid), Some(&pid)));
        let thread = attach_thread(&proc, pid, pid).unwrap();
        assert_eq!(thread.key().start_ticks, attach(&proc, pid).unwrap().key().start_ticks);
    }
}
