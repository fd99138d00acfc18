//! The controller as it is, with a source of its own: a mesh of a given size, whose pods change on
//! request. `touch NUMBER` on stdin makes a pod unready, or ready again; the end of stdin ends it.

use anyhow::{Context as _, Result};
use clap::Parser;
use lab::bench::controller::{Size, objects, pod};
use mesh_ctl::config::Config;
use mesh_ctl::controller::{Controller, Publisher};
use mesh_ctl::metrics::Metrics;
use mesh_ctl::model::Change;
use mesh_ctl::source::Sink as _;
use std::collections::HashSet;
use tokio::sync::mpsc;

/// Serves a mesh of a given size.
#[derive(Parser)]
struct Cli {
    /// How many pods there are.
    #[arg(long)]
    workloads: u32,
    /// How many nodes they are spread over.
    #[arg(long)]
    nodes: u32,
    #[command(flatten)]
    config: Config,
}

/// Gives memory back to the system soon: a first sync to many nodes takes much for a short time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let runtime = mesh_ctl::memory::runtime().context("cannot start the threads")?;
    runtime.block_on(run(Cli::parse()))
}

async fn run(cli: Cli) -> Result<()> {
    let size = Size {
        workloads: cli.workloads,
        nodes: cli.nodes,
    };
    let (ended, end) = tokio::sync::oneshot::channel();
    let controller = Controller::serve(cli.config, Metrics::default(), |mut publisher, _| {
        publisher.change(objects(size));
        async move {
            let result = feed(size, publisher).await;
            let _ = ended.send(result);
        }
    })
    .await?;
    println!("{} {}", controller.address, controller.admin_address);
    end.await.context("the source ended too early")??;
    controller.shutdown().await;
    Ok(())
}

async fn feed(size: Size, mut publisher: Publisher) -> Result<()> {
    let mut unready = HashSet::new();
    let (lines, mut requests) = mpsc::unbounded_channel();
    // The end of stdin ends it, and the channel.
    std::thread::spawn(move || {
        let read = std::io::stdin().lines();
        read.map_while(|line| lines.send(line.ok()?).ok())
            .for_each(drop);
    });
    while let Some(line) = requests.recv().await {
        let number = line.strip_prefix("touch ").context("not a command")?;
        let number: u32 = number.parse()?;
        let ready = !unready.insert(number);
        if ready {
            unready.remove(&number);
        }
        publisher.change(vec![Change::Set(pod(size, number, ready))]);
    }
    Ok(())
}
