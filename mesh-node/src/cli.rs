//! The command line: the node agent, and the commands that talk to it.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;
use crate::enroll::{DEFAULT_RUN_DIR, Reply, Request, call};
use crate::logging::Logs;
use crate::{agent, bpf, keeper};

/// Weft's node agent: mutual TLS, identity and L4 policy for the pods of this node.
#[derive(Debug, Parser)]
#[command(name = "mesh-node", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent.
    Run(Box<Config>),
    /// Capture a pod's traffic; returns once it is captured.
    Enroll {
        #[command(flatten)]
        agent: AgentAt,
        #[command(flatten)]
        pod: PodName,
        /// The pod's network namespace, such as /run/netns/NAME or /proc/PID/ns/net.
        #[arg(long)]
        netns: PathBuf,
    },
    /// Let go of a pod; its open connections run on to their end.
    Unenroll {
        #[command(flatten)]
        agent: AgentAt,
        #[command(flatten)]
        pod: PodName,
    },
    /// List the enrolled pods as JSON.
    List {
        #[command(flatten)]
        agent: AgentAt,
    },
    /// Detach and remove every program, map and link; pods are then as without a mesh.
    Uninstall {
        /// The folder that the agent was run with.
        #[arg(long, default_value = "/sys/fs/bpf/weft")]
        bpffs: PathBuf,
    },
    /// Hold the pods' listeners, so that connections wait while the agent is restarted after a crash.
    Keeper {
        /// The socket on which agents ask (`mesh-node run --keeper`).
        #[arg(long)]
        socket: PathBuf,
    },
    /// Show what the kernel offers and what it lacks.
    Probe,
}

#[derive(Args, Debug)]
struct AgentAt {
    /// The agent's run folder.
    #[arg(long, default_value = DEFAULT_RUN_DIR)]
    run_dir: PathBuf,
}

#[derive(Args, Debug)]
struct PodName {
    /// Kubernetes namespace of the pod.
    #[arg(long)]
    namespace: String,
    /// Name of the pod.
    #[arg(long)]
    name: String,
}

/// Runs what the arguments say; a failure is one line on stderr.
#[must_use]
pub fn main() -> ExitCode {
    let logs = Logs::start();
    match run(Cli::parse().command, logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("mesh-node: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, logs: Logs) -> anyhow::Result<()> {
    match command {
        Command::Run(config) => agent::run(*config, logs),
        Command::Enroll { agent, pod, netns } => {
            let PodName { namespace, name } = pod;
            call(
                &agent.run_dir,
                &Request::Add {
                    namespace,
                    name,
                    netns,
                },
            )
            .map(drop)
        }
        Command::Unenroll { agent, pod } => {
            let PodName { namespace, name } = pod;
            call(&agent.run_dir, &Request::Remove { namespace, name }).map(drop)
        }
        Command::List { agent } => {
            if let Reply::Pods(pods) = call(&agent.run_dir, &Request::List)? {
                println!("{}", serde_json::to_string_pretty(&pods)?);
            }
            Ok(())
        }
        Command::Uninstall { bpffs } => bpf::uninstall(&bpffs)
            .with_context(|| format!("cannot uninstall from {}", bpffs.display())),
        Command::Keeper { socket } => Ok(keeper::run(&socket)?),
        Command::Probe => {
            print!("{}", bpf::probe());
            Ok(())
        }
    }
}
