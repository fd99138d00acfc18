//! `mesh-node`: the node agent, and the commands that talk to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_node::cli::main()
}
