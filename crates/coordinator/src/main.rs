//! The coordinator binary: a thin `main` over the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ottla_coordinator::process::main()
}
