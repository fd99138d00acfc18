//! The command line.

use clap::{Parser, Subcommand};

use super::commands::{
    certificates, completion, connections, log, policies, services, status, version, workloads,
};
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

/// Looks into a Weft mesh: its agents, its controllers, and what they decided.
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
    /// Show the version of meshctl and, where they are reached, of agents and controllers
    Version(version::Args),
    /// Print the completion script of a shell
    Completion(completion::Args),
}
