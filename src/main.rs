//! The `rollbackd` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    rollbackd::cli::main()
}
