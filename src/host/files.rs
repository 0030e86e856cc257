//! Opening and reading kernel files, each within a bound.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::io::{Errno, pread, read};

use super::error::{ErrorClass, HostError, Place};

/// A file of one process, or one of a cgroup.
pub(super) const SMALL: usize = 64 << 10;
/// `/proc/schedstat` of 512 CPUs with four domains each is about 1 MiB; mountinfo of a node with many pods likewise.
pub(super) const LARGE: usize = 16 << 20;
/// First guess at a file's length.
const CHUNK: usize = 4096;
/// Bytes of directory entries taken at once.
const ENTRIES: usize = 8192;

/// A directory under which files are read.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, HostError> {
        let fd = open_path(path).map_err(|errno| HostError::file(path, errno))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    pub(super) fn open_file(&self, relative: &str) -> Result<OwnedFd, Errno> {
        open_in(&self.fd, relative.as_bytes())
    }

    pub(super) fn open_dir(&self, relative: &str) -> Result<OwnedFd, Errno> {
        self.open_dir_at(relative.as_bytes())
    }

    /// The same, of a path made without allocation.
    pub(super) fn open_dir_at(&self, relative: &[u8]) -> Result<OwnedFd, Errno> {
        open_dir_in(&self.fd, relative)
    }

    /// Where a symbolic link points.
    pub(super) fn link(&self, relative: &str) -> Result<Vec<u8>, Errno> {
        rustix::fs::readlinkat(&self.fd, relative, Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// A whole file of the host.
    pub(super) fn read(&self, relative: &str, bound: usize) -> Result<Vec<u8>, HostError> {
        let fail = |errno| HostError::file(self.path(relative), errno);
        let fd = self.open_file(relative).map_err(fail)?;
        read_whole(fd, bound, || Place::File(self.path(relative))).map_err(|error| error.at(Place::File(self.path(relative))))
    }

    /// A whole file of a process.
    pub(super) fn read_process(&self, pid: u32, relative: &str, bound: usize) -> Result<Vec<u8>, HostError> {
        let fd = self.open_file(relative).map_err(|errno| HostError::process(pid, errno))?;
        read_whole(fd, bound, || Place::Process(pid)).map_err(|error| error.at(Place::Process(pid)))
    }
}

/// Opens a file for reading. Not blocking, so that nothing found under a root can hang the agent.
pub(super) fn open_in(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())
}

/// Opens a directory as a place to open others from.
pub(super) fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory for listing.
pub(super) fn open_dir_in(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A whole file by its path.
pub(super) fn read_path(path: &Path, bound: usize) -> Result<Vec<u8>, HostError> {
    let fd =
        open_in(rustix::fs::CWD, std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).map_err(|errno| HostError::file(path, errno))?;
    read_whole(fd, bound, || Place::File(path.to_owned()))
}

/// Reads to the end. What does not fit the bound is refused and not cut: a cut number is a wrong number.
fn read_whole(fd: OwnedFd, bound: usize, place: impl Fn() -> Place) -> Result<Vec<u8>, HostError> {
    let mut bytes = Vec::with_capacity(CHUNK.min(bound));
    loop {
        if bytes.len() > bound {
            return Err(HostError::malformed(place()));
        }
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.capacity().max(CHUNK));
        }
        match read(&fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            // A directory, or a process that went while being read.
            Err(errno) => {
                let error = HostError::file(PathBuf::new(), errno);
                return Err(error.at(place()));
            }
        }
    }
}

/// Reads a kept file from its beginning into a buffer that must hold all of it.
pub(super) fn read_kept<'a>(fd: &OwnedFd, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let room = buffer.len();
    let len = pread(fd, &mut *buffer, 0)?;
    if len >= room {
        return Err(Errno::OVERFLOW);
    }
    buffer.get(..len).ok_or(Errno::OVERFLOW)
}

/// What to do with the entry just seen.
pub(super) enum Walk {
    Go,
    Stop,
}

/// Names in a directory, without `.` and `..`, as bytes, with whether the entry is a directory.
pub(super) fn entries(dir: &OwnedFd, mut each: impl FnMut(&[u8], bool) -> Walk) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); ENTRIES];
    let mut iterator = RawDir::new(dir, &mut space);
    while let Some(entry) = iterator.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if matches!(each(name, entry.file_type().is_dir()), Walk::Stop) {
            break;
        }
    }
    Ok(())
}

/// A missing file of a kernel feature means that the kernel does not offer the feature.
pub(super) fn feature(error: &HostError) -> crate::model::Absence {
    if error.class() == ErrorClass::Absent { crate::model::Absence::NotSupported } else { error.absence() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), vec![b'x'; 10_000]).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.read("f", 10_000).unwrap().len(), 10_000);
        assert_eq!(root.read("f", 9_999).unwrap_err().class(), ErrorClass::Malformed);
        assert_eq!(root.read("none", 10).unwrap_err().class(), ErrorClass::Absent);
        assert_eq!(root.read("f/none", 10).unwrap_err().class(), ErrorClass::Absent);
        assert_eq!(root.read("", 10).unwrap_err().class(), ErrorClass::Absent);
        assert_eq!(root.read_process(1, "none", 10).unwrap_err().class(), ErrorClass::Gone);
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.read("d", 10).unwrap_err().class(), ErrorClass::Io);
    }

    #[test]
    fn a_kept_file_must_fit_its_buffer() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"12345").unwrap();
        let fd = Root::open(dir.path()).unwrap().open_file("f").unwrap();
        assert_eq!(read_kept(&fd, &mut [0; 6]), Ok(&b"12345"[..]));
        assert_eq!(read_kept(&fd, &mut [0; 6]), Ok(&b"12345"[..]), "from the beginning again");
        assert_eq!(read_kept(&fd, &mut [0; 5]), Err(Errno::OVERFLOW));
    }

    #[test]
    fn entries_leave_out_the_dots_and_stop_when_told() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let fd = Root::open(dir.path()).unwrap().open_dir(".").unwrap();
        let mut seen = Vec::new();
        entries(&fd, |name, is_dir| {
            seen.push((name.to_vec(), is_dir));
            Walk::Go
        })
        .unwrap();
        seen.sort();
        assert_eq!(seen, [(b"a".to_vec(), true), (b"b".to_vec(), true), (b"c".to_vec(), true)]);
        let fd = Root::open(dir.path()).unwrap().open_dir(".").unwrap();
        let mut count = 0;
        entries(&fd, |_, _| {
            count += 1;
            Walk::Stop
        })
        .unwrap();
        assert_eq!(count, 1);
    }
}
