//! The gaia program.

use std::process::ExitCode;

fn main() -> ExitCode {
    gaia::Program::new().main()
}
