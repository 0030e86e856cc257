//! `stallspan run`

use std::process::ExitCode;

use super::args::ConfigArguments;
use super::{config_file, output};
use crate::config::Config;

pub(super) fn run(arguments: &ConfigArguments) -> ExitCode {
    let loaded = match config_file::load_or_tell(&arguments.config, &arguments.sets.set, Some(&config_file::tls_file)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match start(loaded.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            output::note(&format!("stallspan: cannot start: {reason:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Comes back after SIGTERM or SIGINT, or with the reason why it could not start.
fn start(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("the agent is not part of this build")
}
