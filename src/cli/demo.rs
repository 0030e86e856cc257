//! `stallspan demo`, and the two hidden commands its actors are.

use std::process::ExitCode;

use super::args::{DemoArguments, NeighborArguments, Text, VictimArguments};
use super::{config_file, output, run};
use crate::app;
use crate::config::BUILT_IN;
use crate::demo::{self, DemoError, Settings, Shown, VictimArgs};

/// How long the victim works where nothing was said: some hundred requests.
const SECONDS: u64 = 8;

pub(super) fn demo(arguments: &DemoArguments) -> ExitCode {
    match show(arguments) {
        Ok(code) => code,
        Err(reason) => {
            output::note(&format!("stallspan: {reason:#}"));
            ExitCode::FAILURE
        }
    }
}

/// 0 when the delay was found and agrees with what the kernel told the victim itself.
fn show(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let seconds = arguments.seconds.unwrap_or(SECONDS);
    output::note(&format!("stallspan demo: a service beside a noisy neighbor, then under a quota, for {seconds} s"));
    let settings = Settings { seconds: std::time::Duration::from_secs(seconds).as_secs_f64() };
    let shown = run::runtime_of_two()?.block_on(async {
        let loaded = config_file::from_bytes(BUILT_IN.as_bytes(), &[], None);
        let config = loaded.map_err(|_| anyhow::anyhow!("the built-in configuration was refused"))?.config;
        let telemetry = app::start_telemetry(&config)?;
        Ok::<_, anyhow::Error>(demo::run(&settings, telemetry, run::interrupted()?).await)
    })?;
    match shown {
        Ok(shown) => Ok(told(&shown, arguments.output)),
        Err(DemoError::Interrupted) => {
            output::note("stallspan demo: interrupted; everything it made is gone");
            Ok(ExitCode::from(130))
        }
        Err(error) => Err(error.into()),
    }
}

fn told(shown: &Shown, format: Text) -> ExitCode {
    let result = &shown.result;
    let text = match format {
        Text::Json => output::json(result),
        Text::Text => format!("{}\n{}\n", shown.picture, result.first.closing_line()),
    };
    if result.agrees() {
        return output::result(&text, ExitCode::SUCCESS);
    }
    output::note("stallspan demo: the delay on the spans and the victim's own reading do not agree, or nothing waited");
    output::result(&text, ExitCode::FAILURE)
}

pub(super) fn victim(arguments: &VictimArguments) -> ExitCode {
    let VictimArguments { endpoint, seconds, cpu, container_id } = arguments.clone();
    ended("demo-victim", demo::victim_main(&VictimArgs { endpoint, seconds, cpu, container_id }))
}

pub(super) fn neighbor(arguments: &NeighborArguments) -> ExitCode {
    ended("demo-neighbor", demo::neighbor_main(arguments.cpu).map_err(anyhow::Error::from))
}

fn ended(who: &str, outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            output::note(&format!("stallspan {who}: {reason:#}"));
            ExitCode::FAILURE
        }
    }
}
