//! `mesh-cni`: the CNI plugin, chained after those that make a pod's network, and its installer.
//!
//! A pod of the mesh is captured before its sandbox is complete: its first process runs after that. When that
//! cannot be done the sandbox fails, and kubelet tries again. Pods outside the mesh never wait: who they are is
//! read from a file that the agent keeps, without asking anybody.

mod conflist;
mod error;
mod files;
mod installer;
mod network;
mod plugin;

use clap::Parser;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::enroll::{DEFAULT_RUN_DIR, DEFAULT_STATE_DIR};
use installer::{Installer, Paths};

/// The plugin's name: its binary, and `type` in network configurations.
const NAME: &str = "mesh-cni";

/// Weft's CNI plugin. A container runtime runs it with CNI_COMMAND; these commands are for its installation.
#[derive(Debug, Parser)]
#[command(name = "mesh-cni", version)]
enum Cli {
    /// Copies the plugin and adds it to the node's network configuration.
    Install(PathArgs),
    /// Removes it from every network configuration, and the copy.
    Uninstall(PathArgs),
    /// Installs it, and does so again whenever another process rewrites the configuration.
    RunInstaller(PathArgs),
}

#[derive(clap::Args, Debug)]
struct PathArgs {
    /// Folder of network configurations, as mounted here.
    #[arg(long, default_value = "/etc/cni/net.d")]
    net_dir: PathBuf,
    /// Folder of plugins, as mounted here.
    #[arg(long, default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// The agent's run folder, as the node sees it.
    #[arg(long, default_value = DEFAULT_RUN_DIR)]
    run_dir: PathBuf,
    /// The agent's state folder, as the node sees it.
    #[arg(long, default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
}

/// Runs what the runtime or the arguments say.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_some() {
        return run_plugin();
    }
    let done = match Cli::parse() {
        Cli::Install(args) => Installer::new(args.into()).install(),
        Cli::Uninstall(args) => Installer::new(args.into()).uninstall(),
        Cli::RunInstaller(args) => Installer::new(args.into()).run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mesh-cni: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run_plugin() -> ExitCode {
    let mut config = String::new();
    let read = io::stdin().read_to_string(&mut config);
    let answer = match read {
        Ok(_) => plugin::run(&plugin::Environment::of_process(), &config),
        Err(e) => Err(error::CniError::Input(e.to_string())),
    };
    match answer {
        Ok(text) => {
            if !text.is_empty() {
                println!("{text}");
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            println!("{}", e.to_json(&network::version_of(&config)));
            ExitCode::FAILURE
        }
    }
}

impl From<PathArgs> for Paths {
    fn from(args: PathArgs) -> Self {
        Self {
            net_dir: args.net_dir,
            bin_dir: args.bin_dir,
            run_dir: args.run_dir,
            state_dir: args.state_dir,
        }
    }
}
