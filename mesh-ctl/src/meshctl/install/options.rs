//! The options of `meshctl install`.

use std::time::Duration;

use clap::ArgAction;

use super::values::Values;

/// What to install, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the manifests as YAML (or as a List with -o json) and do nothing else; no cluster is asked
    #[arg(long, conflicts_with_all = ["diff", "force_conflicts", "wait", "timeout"])]
    pub render: bool,
    /// Show what would change, and change nothing; the exit code is 5 if anything would
    #[arg(long, conflicts_with_all = ["wait", "timeout"])]
    pub diff: bool,
    /// Take over fields that others manage
    #[arg(long)]
    pub force_conflicts: bool,
    /// Wait until the controllers and an agent on every node are ready
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub wait: bool,
    /// How long to wait for them
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// What.
    #[command(flatten)]
    pub values: Values,
}
