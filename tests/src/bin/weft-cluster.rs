//! A Kubernetes of two nodes on this machine: see `lab::cluster`.

use anyhow::Result;
use clap::{Parser, Subcommand};
use lab::acceptance::{self, Kubectl, Stage};
use lab::cluster::{self, Layout, NODES};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs a Kubernetes of two nodes on this machine.
#[derive(Parser)]
struct Cli {
    /// Where the programs of Kubernetes are, and the images for its nodes.
    #[arg(long, env = "WEFT_K8S_DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring it up, unless it is, give its nodes the images, and say how to use it.
    Up {
        /// A tar file with an image for every node; may be given more than once.
        #[arg(long = "image", value_name = "FILE")]
        images: Vec<PathBuf>,
    },
    /// Remove everything of it.
    Down,
    /// Install Weft into it and show what it does; into the cluster that KUBECONFIG names, if it is set.
    Test {
        /// Where the images are: REPOSITORY/mesh-node and REPOSITORY/mesh-controller.
        #[arg(long)]
        repository: String,
        /// The images' tag.
        #[arg(long)]
        tag: String,
    },
    /// Enter a group of the cluster and become a command.
    #[command(hide = true)]
    Member {
        group: String,
        #[arg(last = true)]
        argv: Vec<String>,
    },
    /// Be process 1 of a node.
    #[command(hide = true)]
    Node { name: String },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let layout = Layout::new(&cli.dir);
    let result = match cli.verb {
        Verb::Up { images } => up(&layout, &images),
        Verb::Down => cluster::down(&layout),
        Verb::Test { repository, tag } => acceptance::run(&stage(layout, repository, tag)),
        Verb::Member { group, argv } => cluster::become_member(&group, &argv),
        Verb::Node { name } => cluster::serve_node(&layout, &name),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("k8s: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(layout: &Layout, images: &[PathBuf]) -> Result<()> {
    cluster::up(layout)?;
    for image in images {
        cluster::import(layout, image)?;
    }
    say_how(layout, &lab::netns::path(NODES[0].netns));
    Ok(())
}

fn stage(layout: Layout, repository: String, tag: String) -> Stage {
    let other = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty());
    let (kubectl, own) = match other {
        Some(path) => (Kubectl::of(Path::new(&path)), None),
        None => (Kubectl::own(&layout), Some(layout)),
    };
    Stage {
        kubectl,
        own,
        repository,
        tag,
    }
}

fn say_how(layout: &Layout, netns: &Path) {
    println!(
        "alias k='nsenter --net={} kubectl --kubeconfig {}'",
        netns.display(),
        layout.kubeconfig().display()
    );
    eprintln!(
        "k8s: the cluster is up. The line above makes `k` its kubectl; `k get pods -A` shows what runs. Its network is \
         not linked to this machine's, so other programs need the `nsenter` too. `cargo xtask k8s down` removes it."
    );
}
