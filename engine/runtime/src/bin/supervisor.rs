//! The process that looks after one container; started by the engine, never by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    engine_runtime::supervisor::main()
}
