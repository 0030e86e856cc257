//! The two streams. A reader that goes away early (`stallspan schema | head -1`) is no error.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// Writes a result to standard output and answers with `code`, or with 1 where it could not be written.
pub(super) fn result(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(reason) if reason.kind() == ErrorKind::BrokenPipe => code,
        Err(reason) => {
            note(&format!("stallspan: standard output cannot be written: {reason}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error. Where that cannot be written there is nobody left to tell.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A value as JSON with a line end.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_else(|_| "null".to_owned());
    text.push('\n');
    text
}
