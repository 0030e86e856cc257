//! The `file` exporter: OTLP/JSON, one request a line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::model::{Answer, Code, Refusal, Signal};
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

    /// Where it writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one request and answers once the system has it.
    ///
    /// # Errors
    /// Where it cannot be written; nothing of it stays in the file then.
    pub async fn send(&self, _signal: Signal, body: Bytes) -> Answer {
        let line = body.to_vec();
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
