//! A client and a server for the lab's traffic tests: each behaviour is one that real programs have
//! and that a relay can get wrong. What was seen is printed as one line for each connection.

mod client;
mod hbone;
mod pattern;
mod serve;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Accept connections and behave the same on each.
    Serve {
        listen: SocketAddr,
        #[command(subcommand)]
        behaviour: serve::Behaviour,
    },
    /// Open connections.
    Client {
        server: SocketAddr,
        #[command(subcommand)]
        behaviour: client::Behaviour,
    },
    /// Speak HBONE by hand, well or badly.
    Hbone(hbone::Hbone),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().role {
        Role::Serve { listen, behaviour } => serve::run(listen, &behaviour),
        Role::Client { server, behaviour } => client::run(server, &behaviour),
        Role::Hbone(hbone) => hbone::run(&hbone),
    }
}
