//! The configuration file, the environment and the TLS files: everything `config` may look at and does not open itself.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use super::BAD_CONFIGURATION;
use super::output::note;
use crate::config::{self, Assignment, Files, Loaded, MOST_BYTES, Problem, World};

/// Reads and checks `path`, its TLS files too where `files` are to be opened.
pub(super) fn load(path: &Path, sets: &[Assignment], files: Option<Files<'_>>) -> Result<Loaded, Vec<Problem>> {
    let bytes = bounded(path, MOST_BYTES).map_err(|reason| vec![Problem::of_the_whole(format!("cannot be read: {reason}"))])?;
    from_bytes(&bytes, sets, files)
}

/// The same for a configuration that is no file.
#[expect(clippy::disallowed_methods, reason = "the one place where room config is given the environment")]
pub(super) fn from_bytes(bytes: &[u8], sets: &[Assignment], files: Option<Files<'_>>) -> Result<Loaded, Vec<Problem>> {
    let environment = |name: &str| env::var(name);
    config::load(bytes, sets, World { environment: &environment, files })
}

/// For commands that need a good configuration: warnings and errors are told, the latter with the exit code to end with.
pub(super) fn load_or_tell(path: &Path, sets: &[Assignment], files: Option<Files<'_>>) -> Result<Loaded, ExitCode> {
    told(path, load(path, sets, files))
}

/// Tells what came of loading on standard error.
pub(super) fn told(path: &Path, outcome: Result<Loaded, Vec<Problem>>) -> Result<Loaded, ExitCode> {
    match outcome {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                note(&format!("{} (warning)", line(path, warning)));
            }
            Ok(loaded)
        }
        Err(errors) => {
            for error in &errors {
                note(&line(path, error));
            }
            Err(ExitCode::from(BAD_CONFIGURATION))
        }
    }
}

/// `FILE:LINE:COLUMN: message`, and `--set KEY: message` as it is.
pub(super) fn line(path: &Path, problem: &Problem) -> String {
    match (problem.line, problem.message.starts_with("--set ")) {
        (Some(_), _) => format!("{}:{problem}", path.display()),
        (None, true) => problem.to_string(),
        (None, false) => format!("{}: {problem}", path.display()),
    }
}

/// A TLS file: a regular file of reasonable size.
#[expect(clippy::disallowed_methods, reason = "a file the configuration names, not the kernel's")]
pub(super) fn tls_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let bytes = bounded(path, MOST_BYTES)?;
    if bytes.len() > MOST_BYTES { Err(io::Error::other("it is over 1 MiB")) } else { Ok(bytes) }
}

/// At most one byte more than `most`, which is enough to see that there is more.
#[expect(clippy::disallowed_methods, reason = "files the user names, not the kernel's")]
fn bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
