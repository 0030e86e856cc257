//! `stallspan demo`

use std::process::ExitCode;

use super::args::DemoArguments;
use super::output;

pub(super) fn demo(arguments: &DemoArguments) -> ExitCode {
    match show(arguments) {
        Ok(code) => code,
        Err(reason) => {
            output::note(&format!("stallspan: {reason:#}"));
            ExitCode::FAILURE
        }
    }
}

/// 0 when the delay was found and the culprit named as far as the source can tell.
fn show(_arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo is not part of this build")
}
