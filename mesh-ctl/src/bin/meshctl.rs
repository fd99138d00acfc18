//! `meshctl`: see `meshctl --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_ctl::meshctl::main()
}
