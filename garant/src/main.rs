//! The program `garant`.

use std::process::ExitCode;

fn main() -> ExitCode {
    garant::main(&garant::Registry::garant())
}
