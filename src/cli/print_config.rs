//! `stallspan print-config`

use std::process::ExitCode;

use super::args::ConfigArguments;
use super::{config_file, output};

pub(super) fn print_config(arguments: &ConfigArguments) -> ExitCode {
    // What is in force does not depend on whether certificates can be read here.
    match config_file::load_or_tell(&arguments.config, &arguments.sets.set, None) {
        Ok(loaded) => output::result(&loaded.print(), ExitCode::SUCCESS),
        Err(code) => code,
    }
}
