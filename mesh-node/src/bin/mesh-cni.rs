//! `mesh-cni`: the CNI plugin and its installer.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_node::cni::main()
}
