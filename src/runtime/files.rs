//! A value read from files, read again when the files change. A change that cannot be read (half written, gone)
//! keeps the old value and is told once.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::clock::instant_now;

/// Files are not looked at more often than this, however often the value is asked for.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// What makes two looks at a file differ: device and inode (renamed over it), size, and time of change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Reads a value from files.
type Load<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// A value from files.
pub struct Reloading<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    look_every: Duration,
    read_again_every: Option<Duration>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamps: Vec<Stamp>,
    looked: Instant,
    read: Instant,
}

impl<T> Reloading<T> {
    /// Reads it for the first time. `read_again_every`: read anew after this time even if no file seems changed.
    ///
    /// # Errors
    /// What `load` says.
    pub fn open(files: Vec<PathBuf>, read_again_every: Option<Duration>, load: Load<T>) -> Result<Self, String> {
        let stamps = stamps(&files);
        let value = Arc::new(load()?);
        let now = instant_now();
        let state = Mutex::new(State { value, stamps, looked: now, read: now });
        Ok(Self { files, load, look_every: SHORTEST_LOOK, read_again_every, state })
    }

    /// The newest value that could be read.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = instant_now();
        if now.duration_since(state.looked) >= self.look_every {
            state.looked = now;
            self.look(&mut state, now);
        }
        Arc::clone(&state.value)
    }

    fn look(&self, state: &mut State<T>, now: Instant) {
        let stamps = stamps(&self.files);
        let due = self.read_again_every.is_some_and(|every| now.duration_since(state.read) >= every);
        if stamps == state.stamps && !due {
            return;
        }
        state.stamps = stamps;
        state.read = now;
        match (self.load)() {
            Ok(value) => state.value = Arc::new(value),
            Err(why) => tracing::warn!(files = ?self.files, why, "changed files could not be read; the values read before stay in use"),
        }
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "files the user names, not the kernel's")]
fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files
        .iter()
        .map(|file| std::fs::metadata(file).ok().map(|meta| (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reloading(path: PathBuf, again: Option<Duration>) -> Reloading<u32> {
        let file = path.clone();
        let load = move || std::fs::read_to_string(&file).map_err(|e| e.to_string())?.trim().parse().map_err(|_| "not a number".to_owned());
        Reloading::open(vec![path], again, Box::new(load)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_and_a_broken_change_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "1").unwrap();
        let value = reloading(path.clone(), None);
        for (text, expected) in [("22", 22), ("half", 22), ("333", 333)] {
            std::fs::write(&path, text).unwrap();
            tokio::time::advance(SHORTEST_LOOK).await;
            assert_eq!(*value.get(), expected, "after {text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(SHORTEST_LOOK).await;
        assert_eq!(*value.get(), 333);
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_not_looked_at_on_every_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "1").unwrap();
        let value = reloading(path.clone(), Some(Duration::from_secs(60)));
        std::fs::write(&path, "22").unwrap();
        assert_eq!(*value.get(), 1);
    }

    #[test]
    fn what_cannot_be_read_at_first_is_an_error() {
        let missing: Result<Reloading<()>, _> = Reloading::open(vec![], None, Box::new(|| Err("no".to_owned())));
        assert_eq!(missing.unwrap_err(), "no");
    }
}
