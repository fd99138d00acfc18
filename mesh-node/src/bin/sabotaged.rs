//! `mesh-node-sabotaged`: the agent that the lab can tell to misbehave, to see that its checks
//! notice. Built only with the feature `sabotage`, under a name of its own; never shipped.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_node::cli::main()
}
