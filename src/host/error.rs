//! What can go wrong when asking the kernel, by what it means for the asker.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::model::Absence;

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// The process or cgroup is not there any more.
    Gone,
    /// EPERM, EACCES.
    Denied,
    /// The kernel was built without it, or has it off.
    Unsupported,
    /// No such file on this host.
    Absent,
    /// Answers were lost because a buffer was full: ask again.
    Overrun,
    /// No answer in time.
    Timeout,
    /// What came could not be read, or did not fit its bound.
    Malformed,
    /// Anything else.
    Io,
}

/// Where it went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The taskstats socket.
    Taskstats,
    /// The socket of the process connector.
    Forks,
    /// A file of a process.
    Process(u32),
    /// A file or directory.
    File(PathBuf),
}

/// An error of this room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    class: ErrorClass,
    place: Place,
    errno: Option<Errno>,
}

impl std::error::Error for HostError {}

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Taskstats => f.write_str("taskstats")?,
            Place::Forks => f.write_str("process connector")?,
            Place::Process(pid) => write!(f, "process {pid}")?,
            // Debug escapes what is not text; a cgroup's name may be anything.
            Place::File(path) => write!(f, "{path:?}")?,
        }
        f.write_str(": ")?;
        f.write_str(match (&self.place, self.class) {
            (_, ErrorClass::Gone) => "is gone",
            (Place::Taskstats, ErrorClass::Denied) => "not permitted: needs CAP_NET_ADMIN in the host's user namespace",
            (Place::Taskstats, ErrorClass::Unsupported) => {
                "the kernel does not offer it: needs CONFIG_TASKSTATS, before 6.1 also the host's network namespace"
            }
            (Place::Forks, ErrorClass::Denied) => "not permitted: needs CAP_NET_ADMIN in the host's user namespace",
            (Place::File(_), ErrorClass::Denied) if self.errno == Some(Errno::ROFS) => {
                "is mounted read-only: write it on the node itself, or mount it writable"
            }
            (_, ErrorClass::Denied) => "not permitted: run as root or with CAP_SYS_PTRACE",
            (_, ErrorClass::Unsupported) => "the kernel does not offer it or has it switched off",
            (_, ErrorClass::Absent) => "is not there: check where it is mounted",
            (_, ErrorClass::Overrun) => "answers were lost because the buffer was full; they are asked for again",
            (_, ErrorClass::Timeout) => "no answer in time",
            (_, ErrorClass::Malformed) => "holds what cannot be read",
            (_, ErrorClass::Io) => "cannot be read",
        })?;
        self.errno.map_or(Ok(()), |errno| write!(f, " (error {})", errno.raw_os_error()))
    }
}

impl HostError {
    pub(super) const fn new(class: ErrorClass, place: Place) -> Self {
        Self { class, place, errno: None }
    }

    /// A file of the host, from the kernel's error number.
    pub(super) fn file(path: impl Into<PathBuf>, errno: Errno) -> Self {
        let class = match errno {
            Errno::NOENT | Errno::NOTDIR => ErrorClass::Absent,
            _ => class_of(errno),
        };
        Self { class, place: Place::File(path.into()), errno: Some(errno) }
    }

    /// A file of a process: there a missing file means a missing process.
    pub(super) fn process(pid: u32, errno: Errno) -> Self {
        let class = match errno {
            Errno::NOENT => ErrorClass::Gone,
            _ => class_of(errno),
        };
        Self { class, place: Place::Process(pid), errno: Some(errno) }
    }

    /// The taskstats socket.
    pub(super) fn taskstats(errno: Errno) -> Self {
        Self { class: class_of(errno), place: Place::Taskstats, errno: Some(errno) }
    }

    /// The error found at a more telling place.
    pub(super) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub(super) const fn malformed(place: Place) -> Self {
        Self::new(ErrorClass::Malformed, place)
    }

    /// What it means.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        self.class
    }

    /// Whether the process or cgroup asked about is not there any more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self.class, ErrorClass::Gone)
    }

    /// The word for people who ask why a source supplies nothing.
    #[must_use]
    pub const fn absence(&self) -> Absence {
        match self.class {
            ErrorClass::Gone | ErrorClass::Absent => Absence::Absent,
            ErrorClass::Denied => Absence::NoPermission,
            ErrorClass::Unsupported => Absence::NotSupported,
            ErrorClass::Timeout => Absence::Timeout,
            ErrorClass::Malformed => Absence::Garbage,
            ErrorClass::Overrun | ErrorClass::Io => Absence::Failed,
        }
    }
}

fn class_of(errno: Errno) -> ErrorClass {
    match errno {
        // Kept files answer ESRCH when the process is gone, ENODEV when the cgroup is.
        Errno::SRCH | Errno::NODEV => ErrorClass::Gone,
        Errno::PERM | Errno::ACCESS | Errno::ROFS => ErrorClass::Denied,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => ErrorClass::Unsupported,
        Errno::NOBUFS => ErrorClass::Overrun,
        Errno::AGAIN | Errno::TIMEDOUT => ErrorClass::Timeout,
        _ => ErrorClass::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_meanings() {
        fn check(error: HostError, class: ErrorClass, absence: Absence) {
            assert_eq!((error.class(), error.absence()), (class, absence), "{error}");
        }
        check(HostError::process(7, Errno::NOENT), ErrorClass::Gone, Absence::Absent);
        check(HostError::process(7, Errno::SRCH), ErrorClass::Gone, Absence::Absent);
        check(HostError::process(7, Errno::ACCESS), ErrorClass::Denied, Absence::NoPermission);
        check(HostError::file("/x", Errno::NOENT), ErrorClass::Absent, Absence::Absent);
        check(HostError::file("/x", Errno::NODEV), ErrorClass::Gone, Absence::Absent);
        check(HostError::file("/x", Errno::OPNOTSUPP), ErrorClass::Unsupported, Absence::NotSupported);
        check(HostError::file("/x", Errno::IO), ErrorClass::Io, Absence::Failed);
        check(HostError::taskstats(Errno::NOBUFS), ErrorClass::Overrun, Absence::Failed);
        check(HostError::taskstats(Errno::AGAIN), ErrorClass::Timeout, Absence::Timeout);
        check(HostError::malformed(Place::Taskstats), ErrorClass::Malformed, Absence::Garbage);
    }

    #[test]
    fn messages_name_the_place_and_the_cure() {
        let text = HostError::taskstats(Errno::PERM).to_string();
        assert_eq!(text, "taskstats: not permitted: needs CAP_NET_ADMIN in the host's user namespace (error 1)");
        let text = HostError::file("/proc/sys/x", Errno::ROFS).to_string();
        assert_eq!(text, r#""/proc/sys/x": is mounted read-only: write it on the node itself, or mount it writable (error 30)"#);
        assert_eq!(HostError::process(7, Errno::SRCH).to_string(), "process 7: is gone (error 3)");
        assert!(HostError::file("/a\nb", Errno::NOENT).to_string().starts_with(r#""/a\nb": is not there"#));
    }
}
