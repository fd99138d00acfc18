//! Weft's automation: `cargo xtask <command>`, one module per command.
//!
//! It compiles with nothing but the Rust toolchain; whatever else a command needs, `setup` installs.
//! Progress goes to stderr, so that stdout carries only what a command is asked to print.

mod apt;
mod bench;
mod build;
mod check;
mod demo;
mod exec;
mod fuzz;
mod image;
mod k8s;
mod setup;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Weft's automation.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install every prerequisite that is missing (needs root for Debian packages).
    Setup,
    /// Build the release binaries.
    Build(build::Args),
    /// Run the mesh on two nodes with real applications and print what it did.
    Demo(demo::Args),
    /// Measure the mesh against no mesh and against others (needs root).
    #[command(subcommand)]
    Bench(bench::Command),
    /// Run the unit, lab and integration tests (needs root).
    Test(test::Args),
    /// Make the container images, as tar files and without a container engine.
    Image(image::Args),
    /// Feed what reads hostile bytes with arbitrary ones.
    Fuzz(fuzz::Args),
    /// A Kubernetes API server to develop and test against.
    #[command(subcommand)]
    K8s(k8s::Command),
    /// Format, lints, licences, sources and documentation.
    Check,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup => setup::run(&setup::Needs::everything()),
        Command::Build(args) => build::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(what) => bench::run(&what),
        Command::Test(args) => test::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::K8s(what) => k8s::run(&what),
        Command::Check => check::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
