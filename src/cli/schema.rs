//! `stallspan schema`

use std::process::ExitCode;

use super::output;
use crate::config;

pub(super) fn schema() -> ExitCode {
    output::result(&output::json(&config::schema()), ExitCode::SUCCESS)
}
