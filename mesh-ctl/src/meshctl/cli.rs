//! The command line.

use clap::{Parser, Subcommand};

use super::commands::{
    certificates, completion, connections, log, policies, services, status, version, workloads,
};
use super::install::{self, uninstall};
use super::output::OutputOptions;
use super::policy::PolicyCommand;
use super::reach::ReachOptions;

/// What scripts are told.
const EXIT_CODES: &str = "Exit codes:
  0  all that was asked for was done or shown
  1  nothing could be done or shown
  2  the command line is wrong
  3  some agents or controllers did not answer; what the others said is shown
  4  there is nothing of that name
  5  a finding, from commands and options that say so";

/// Looks into a Weft mesh: its agents, its controllers, and what they decided. Installs and uninstalls it.
///
/// Agents are found by kubeconfig and reached through the API server (port-forward), or directly by
/// --node-url.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to find the mesh.
    #[command(flatten)]
    pub reach: ReachOptions,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether agents and controllers are there, ready and in agreement
    Status(status::Args),
    /// List what runs in the mesh
    Workloads(workloads::Args),
    /// List services, their addresses and endpoints
    Services(services::Args),
    /// List the authorization policies that are enforced
    Policies(policies::Args),
    /// Explain, check and compare policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// List the connections that are open
    Connections(connections::Args),
    /// List the certificates of local identities
    Certificates(certificates::Args),
    /// Show or change what agents log
    Log(log::Args),
    /// Print all that agents know, as JSON
    ConfigDump,
    /// Install Weft, or change what is installed
    Install(Box<install::Args>),
    /// Remove Weft from the cluster and its nodes
    Uninstall(uninstall::Args),
    /// Show the version of meshctl and, where they are reached, of agents and controllers
    Version(version::Args),
    /// Print the completion script of a shell
    Completion(completion::Args),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn a_timeout_is_for_each_agent_or_for_the_whole_of_an_installation() {
        Cli::command().debug_assert();
        for (line, seconds) in [
            (&["status"][..], 10),
            (&["status", "--timeout", "3s"], 3),
            (&["install"], 300),
            (&["install", "--timeout", "3s"], 3),
            (&["--timeout", "3s", "install"], 3),
            (&["uninstall"], 300),
        ] {
            let cli = Cli::parse_from(["meshctl"].iter().chain(line));
            let timeout = match cli.command {
                Command::Install(args) => args.timeout,
                Command::Uninstall(args) => args.timeout,
                _ => cli.reach.timeout,
            };
            assert_eq!(timeout, Duration::from_secs(seconds), "{line:?}");
        }
    }
}
