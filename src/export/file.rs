//! The `file` exporter: OTLP/JSON, one request a line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use tokio::sync::Mutex;

use crate::model::{Answer, Code, Refusal, Signal};
use crate::otlp::json;
use crate::runtime::Tasks;

/// A `file` exporter.
#[derive(Debug)]
pub struct FileExporter {
    path: PathBuf,
    file: Arc<Mutex<File>>,
    tasks: Tasks,
}

impl FileExporter {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// Names the file and why.
    #[expect(clippy::disallowed_methods, reason = "a file the user names, not the kernel's")]
    pub fn open(path: &Path, tasks: Tasks) -> Result<Self, String> {
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Arc::new(Mutex::new(file)), tasks })
    }

    /// Whether it could be opened or created, without doing either.
    ///
    /// # Errors
    /// Names the file and why not.
    pub fn try_out(path: &Path) -> Result<(), String> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let usable = match access(path, Access::WRITE_OK) {
            Err(Errno::NOENT) => access(folder, Access::WRITE_OK | Access::EXEC_OK),
            Ok(()) if path.is_dir() => Err(Errno::ISDIR),
            told => told,
        };
        usable.map_err(|why| format!("{}: {}", path.display(), std::io::Error::from(why)))
    }

    /// Where it writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one request and answers once the system has it.
    ///
    /// # Errors
    /// Where it cannot be written; nothing of it stays in the file then.
    pub async fn send(&self, signal: Signal, body: Bytes) -> Answer {
        let line = json::from_protobuf(json::Message::Request(signal), &body);
        let mut line = line.map_err(|why| Refusal::new(Code::InvalidArgument, format!("request cannot be written as JSON: {why}")))?;
        line.push(b'\n');
        let file = Arc::clone(&self.file).lock_owned().await;
        // Runs to its end even if the sender goes away: half a line would spoil the next one.
        let written = self.tasks.blocking("file exporter", move || append(&file, &line));
        match written.await {
            Ok(Ok(())) => Ok(Bytes::new()),
            Ok(Err(why)) => Err(Refusal::new(Code::Unavailable, format!("{}: {why}", self.path.display()))),
            Err(_) => Err(Refusal::new(Code::Internal, format!("{}: writing failed", self.path.display()))),
        }
    }
}

fn append(mut file: &File, line: &[u8]) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(line).and_then(|()| file.flush());
    if written.is_err() {
        // A disk that is full takes part of a line; what cannot be taken back is left.
        let _ = file.set_len(before);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_out_creates_nothing_and_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.json");
        assert_eq!(FileExporter::try_out(&path), Ok(()));
        assert!(!path.exists());
        std::fs::write(&path, "{}\n").unwrap();
        assert_eq!(FileExporter::try_out(&path), Ok(()));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
        for bad in [dir.path().join("no/such/file"), dir.path().to_owned(), path.join("below")] {
            assert!(FileExporter::try_out(&bad).unwrap_err().contains(dir.path().to_str().unwrap()), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn requests_become_lines_behind_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otlp.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        let exporter = FileExporter::open(&path, Tasks::new()).unwrap();
        for signal in Signal::ALL {
            assert_eq!(exporter.send(signal, Bytes::from_static(b"\x0a\0")).await, Ok(Bytes::new()));
        }
        let lines = std::fs::read_to_string(&path).unwrap();
        let expected = "before\n{\"resourceSpans\":[{}]}\n{\"resourceMetrics\":[{}]}\n{\"resourceLogs\":[{}]}\n";
        assert_eq!(lines, expected);
        let broken = exporter.send(Signal::Logs, Bytes::from_static(b"\x0a\x05x")).await;
        assert_eq!(broken.unwrap_err().code, Code::InvalidArgument);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_full_disk_is_worth_another_try() {
        let exporter = FileExporter::open(Path::new("/dev/full"), Tasks::new()).unwrap();
        let refusal = exporter.send(Signal::Traces, Bytes::new()).await.unwrap_err();
        assert_eq!(refusal.code, Code::Unavailable);
        assert!(refusal.message.contains("/dev/full"), "{}", refusal.message);
        assert!(FileExporter::open(Path::new("/no/such/folder/file"), Tasks::new()).unwrap_err().contains("/no/such/folder"));
    }
}
