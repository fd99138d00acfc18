//! `cargo xtask bench`: measurements of the mesh beside no mesh and beside others.

use crate::exec::{become_command, command, is_root};
use crate::{build, setup};
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Throughput, latency, new connections, CPU time and memory of the data plane.
    Dataplane(Dataplane),
    /// How soon every node knows of a change, and what the controller costs.
    Controller(Controller),
    /// What a policy decision costs with few and with many policies.
    Policy(Policy),
}

/// Measure the data plane.
///
/// Without --soak and --scaling: every load through every contender, round by round, then memory and
/// enrolment time of the proxies. Contenders are `direct` (no proxy), `weft` and the peer, each also as
/// `-same-node`. The figures are a table on stdout; progress goes to stderr. Exit code 0: everything was
/// measured; 1: a proxy grew under --soak; 2: something could not be measured.
#[derive(clap::Args)]
pub(crate) struct Dataplane {
    /// Compare with another node proxy that speaks ZDS and takes ztunnel's variables.
    #[arg(long, value_name = "NAME=PATH")]
    peer: Option<String>,
    /// How often everything is measured for every contender; a published report takes at least 5.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// How long each run is measured, seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
    /// Only what has a name that begins so, for example `bulk-1,rtt-64b,memory-idle`.
    #[arg(long, value_name = "NAME[,..]")]
    only: Option<String>,
    /// Only these contenders, for example `direct,weft`.
    #[arg(long, value_name = "NAME[,..]")]
    contenders: Option<String>,
    /// Instead, load one contender, weft unless --contenders says another, for so long in every way at
    /// once, and fail when its proxies grow.
    #[arg(long, value_name = "MINUTES", conflicts_with = "scaling")]
    soak: Option<u32>,
    /// Instead, count what the agents' threads cost each other, with 1, 2, 4 and 8 of them.
    #[arg(long)]
    scaling: bool,
    /// Write the report as one JSON object to this file; to stdout, instead of the table, without a name.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = STDOUT)]
    json: Option<String>,
    /// Write a plot of the main figures to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<String>,
}

/// Measure the controller.
///
/// For each size of mesh and each number of nodes: the time from one changed pod to the last node's
/// receipt, the bytes sent for it, the controller's processor time, its memory for each workload and
/// client, and the time to the first sync. The nodes are simulated, over real TLS connections. The
/// figures are a table on stdout; progress goes to stderr.
#[derive(clap::Args)]
pub(crate) struct Controller {
    /// How many pods there are, for example `1000,100000`.
    #[arg(long, value_name = "N[,..]")]
    workloads: Option<String>,
    /// How many nodes there are, for example `100`.
    #[arg(long, value_name = "N[,..]")]
    nodes: Option<String>,
    /// How often everything is measured; a published report takes at least 5.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// How many pods change in a round.
    #[arg(long, value_name = "N")]
    changes: Option<u32>,
    /// Write the report as one JSON object to this file; to stdout, instead of the table, without a name.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = STDOUT)]
    json: Option<String>,
}

/// Measure the policy decision.
///
/// With 1, 100 and 10,000 policies, of which ten can match: the time of a decision that allows and of one
/// that denies, of an explanation, and of a change of one policy. The figures are a table on stdout;
/// progress goes to stderr.
#[derive(clap::Args)]
pub(crate) struct Policy {
    /// How often everything is measured; a published report takes at least 5.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Write the report as one JSON object to this file; to stdout, instead of the table, without a name.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = STDOUT)]
    json: Option<String>,
}

/// What stands for stdout where a file is expected.
const STDOUT: &str = "-";

/// Installs, builds, and becomes the benchmark.
pub(crate) fn run(what: &Command) -> Result<()> {
    match what {
        Command::Dataplane(args) => dataplane(args),
        Command::Controller(args) => controller(args),
        Command::Policy(args) => policy(args),
    }
}

fn dataplane(args: &Dataplane) -> Result<()> {
    if !is_root() {
        bail!(
            "the lab needs root (namespaces, cgroups, eBPF); run `sudo cargo xtask bench dataplane`"
        );
    }
    setup::run(&setup::Needs::bench())?;
    build::bench()?;
    let bin_dir = build::dist_dir();
    let mut bench = command(&bin_dir.join("weft-bench").to_string_lossy(), &[]);
    bench.env("WEFT_BIN_DIR", &bin_dir);
    bench.args(args.words(&std::env::current_dir()?)?);
    become_command(bench, "is it built?")
}

fn controller(args: &Controller) -> Result<()> {
    setup::run(&setup::Needs::build())?;
    build::bench_controller()?;
    let bin_dir = build::dist_dir();
    let program = bin_dir.join("weft-bench-controller");
    let mut bench = command(&program.to_string_lossy(), &[]);
    bench.env("WEFT_BIN_DIR", &bin_dir);
    bench.args(args.words(&std::env::current_dir()?));
    become_command(bench, "is it built?")
}

fn policy(args: &Policy) -> Result<()> {
    setup::run(&setup::Needs::build())?;
    build::bench_policy()?;
    let program = build::dist_dir().join("weft-bench-policy");
    let mut bench = command(&program.to_string_lossy(), &[]);
    bench.args(args.words(&std::env::current_dir()?));
    become_command(bench, "is it built?")
}

/// A report's file as the benchmark is to find it, which runs in the workspace's root.
fn report_file(file: &str, here: &Path) -> String {
    match file {
        STDOUT => STDOUT.to_owned(),
        _ => here.join(file).display().to_string(),
    }
}

impl Policy {
    /// The benchmark's own arguments; files are named from `here`, the caller's directory.
    fn words(&self, here: &Path) -> Vec<String> {
        let rounds = self.rounds.map(|rounds| format!("--rounds={rounds}"));
        let file = self.json.as_ref().map(|file| report_file(file, here));
        let json = file.map(|file| format!("--json={file}"));
        rounds.into_iter().chain(json).collect()
    }
}

impl Controller {
    /// The benchmark's own arguments; files are named from `here`, the caller's directory.
    fn words(&self, here: &Path) -> Vec<String> {
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let options = [
            ("--workloads", self.workloads.clone()),
            ("--nodes", self.nodes.clone()),
            ("--rounds", number(self.rounds)),
            ("--changes", number(self.changes)),
            (
                "--json",
                self.json.as_ref().map(|file| report_file(file, here)),
            ),
        ];
        let given = options
            .into_iter()
            .filter_map(|(flag, value)| Some(format!("{flag}={}", value?)));
        given.collect()
    }
}

impl Dataplane {
    /// The benchmark's own arguments. It runs in the workspace's root: files are named from `here`, the
    /// caller's directory.
    fn words(&self, here: &Path) -> Result<Vec<String>> {
        let absolute = |file: &String| here.join(file).display().to_string();
        let peer = self.peer.as_deref().map(|peer| {
            let named = peer.split_once('=');
            let (name, path) = named.with_context(|| format!("{peer:?} is not NAME=PATH"))?;
            anyhow::Ok(format!("{name}={}", absolute(&path.to_owned())))
        });
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let options = [
            ("--peer", peer.transpose()?),
            ("--rounds", number(self.rounds)),
            ("--seconds", number(self.seconds)),
            ("--only", self.only.clone()),
            ("--contenders", self.contenders.clone()),
            ("--soak", number(self.soak)),
            (
                "--json",
                self.json.as_ref().map(|file| report_file(file, here)),
            ),
            ("--svg", self.svg.as_ref().map(absolute)),
        ];
        let given = options
            .into_iter()
            .filter_map(|(flag, value)| Some(format!("{flag}={}", value?)));
        let scaling = self.scaling.then(|| "--scaling".to_owned());
        Ok(given.chain(scaling).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Command;
    use clap::Parser;
    use std::path::Path;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    fn words(arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let all = ["bench", "dataplane"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Dataplane(args) => args.words(Path::new("/home/me")),
            Command::Controller(args) => Ok(args.words(Path::new("/home/me"))),
            Command::Policy(args) => Ok(args.words(Path::new("/home/me"))),
        }
    }

    #[test]
    fn the_policy_benchmarks_options_are_passed_on() {
        let all = ["bench", "policy", "--rounds=9", "--json"];
        let Command::Policy(args) = Cli::try_parse_from(all).unwrap().command else {
            panic!("not that of policy")
        };
        let words = args.words(Path::new("/home/me"));
        assert_eq!(words, ["--rounds=9", "--json=-"]);
    }

    #[test]
    fn the_controllers_options_are_passed_on() {
        let all = [
            "bench",
            "controller",
            "--workloads=1000,10000",
            "--json",
            "a",
        ];
        let Command::Controller(args) = Cli::try_parse_from(all).unwrap().command else {
            panic!("not the controller's")
        };
        assert_eq!(
            args.words(Path::new("/home/me")),
            ["--workloads=1000,10000", "--json=/home/me/a"]
        );
    }

    #[test]
    fn files_are_named_from_the_callers_directory() {
        assert_eq!(words(&[]).unwrap(), [""; 0]);
        assert_eq!(
            words(&[
                "--peer",
                "other=bin/proxy",
                "--json",
                "out.json",
                "--svg",
                "/tmp/a.svg"
            ])
            .unwrap(),
            [
                "--peer=other=/home/me/bin/proxy",
                "--json=/home/me/out.json",
                "--svg=/tmp/a.svg"
            ]
        );
        assert_eq!(
            words(&["--json", "--rounds", "3"]).unwrap(),
            ["--rounds=3", "--json=-"]
        );
        assert_eq!(words(&["--scaling"]).unwrap(), ["--scaling"]);
        assert!(words(&["--peer", "proxy"]).is_err());
        assert!(words(&["--soak", "10", "--scaling"]).is_err());
    }
}
