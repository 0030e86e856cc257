//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    stallspan::cli::main()
}
