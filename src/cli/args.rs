//! What may be typed. Wrong use ends with exit code 2, which is clap's.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Assignment;

/// Tells every span how long its container waited in the kernel, why, and because of whom.
#[derive(Debug, Parser)]
#[command(name = "stallspan", version, max_term_width = 120)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent until SIGTERM or SIGINT
    ///
    /// Exit code 0 after a signal, 78 for a bad configuration, 1 where it cannot start.
    Run(ConfigArguments),
    /// Tell what this host can supply, what is lost where not, and the command that mends it
    ///
    /// Exit code 1 if anything the configuration asks for cannot work, 78 for a bad configuration, else 0.
    Check(CheckArguments),
    /// Tell every error of a configuration at once
    ///
    /// Exit code 0 or 78.
    Validate(ValidateArguments),
    /// Print the configuration in force, defaults filled in and secrets masked
    PrintConfig(ConfigArguments),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Show the whole job on this machine: a victim, a noisy neighbor, real spans with their stalls
    Demo(DemoArguments),
    /// An actor of the demo
    #[command(hide = true)]
    DemoVictim(VictimArguments),
    /// An actor of the demo
    #[command(hide = true)]
    DemoNeighbor(NeighborArguments),
}

#[derive(Args, Debug)]
pub(super) struct ConfigArguments {
    /// Configuration, YAML
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) sets: Sets,
}

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// Configuration, YAML; without it the defaults are looked at
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) sets: Sets,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t = Table::Table)]
    pub(super) output: Table,
}

#[derive(Args, Debug)]
pub(super) struct ValidateArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t = Text::Text)]
    pub(super) output: Text,
}

#[derive(Args, Debug)]
pub(super) struct DemoArguments {
    /// How long the victim and its neighbor work; left out, as long as the demo needs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(super) seconds: Option<u64>,
    /// How the result is written
    #[arg(short, long, value_enum, default_value_t = Text::Text)]
    pub(super) output: Text,
}

#[derive(Args, Clone, Debug)]
pub(super) struct VictimArguments {
    #[arg(long)]
    pub(super) endpoint: String,
    #[arg(long)]
    pub(super) seconds: f64,
    #[arg(long)]
    pub(super) cpu: usize,
    #[arg(long)]
    pub(super) container_id: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct NeighborArguments {
    #[arg(long)]
    pub(super) cpu: usize,
}

#[derive(Args, Debug)]
pub(super) struct Sets {
    /// Write one value over the file's, as in `sources.method=schedstat`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<Assignment>,
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Text {
    Text,
    Json,
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Table {
    Table,
    Json,
}
