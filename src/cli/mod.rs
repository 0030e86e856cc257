//! Room `cli`: the command line. Reads arguments, the configuration file and the environment, calls one room, prints.
//!
//! Results go to standard output, everything else to standard error. Knows nothing about how the work is done: one file
//! a command, each of them arguments in and exit code out. The only room that uses `anyhow`.

mod args;
mod check;
mod config_file;
mod demo;
mod output;
mod print_config;
mod run;
mod schema;
mod validate;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

/// Exit code of a bad configuration: `EX_CONFIG` of sysexits(3).
const BAD_CONFIGURATION: u8 = 78;

/// The whole program.
pub fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => dispatch(&arguments.command),
        Err(told) => {
            // Help and version come this way too, with exit code 0; a reader that has gone is no mistake.
            let _ = told.print();
            u8::try_from(told.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn dispatch(command: &Command) -> ExitCode {
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Validate(arguments) => validate::validate(arguments),
        Command::PrintConfig(arguments) => print_config::print_config(arguments),
        Command::Schema => schema::schema(),
        Command::Demo(arguments) => demo::demo(arguments),
        Command::DemoVictim(arguments) => demo::victim(arguments),
        Command::DemoNeighbor(arguments) => demo::neighbor(arguments),
    }
}
