//! A client and a server for the lab's traffic tests: each behaviour is one that real programs have
//! and that a relay can get wrong. What was seen is printed as one line for each connection.

mod abuse;
mod client;
mod crowd;
mod escape;
mod frames;
mod hbone;
mod pattern;
mod serve;
mod spoof;

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
    /// Abuse HTTP/2 with a valid certificate.
    Abuse(abuse::Abuse),
    /// Hold connections open and say nothing.
    Crowd(crowd::Crowd),
    /// Open a connection in a way that capture might overlook.
    Escape(escape::Escape),
    /// Send a packet with a source address of our choice.
    Spoof(spoof::Spoof),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().role {
        Role::Serve { listen, behaviour } => serve::run(listen, &behaviour),
        Role::Client { server, behaviour } => client::run(server, &behaviour),
        Role::Hbone(hbone) => hbone::run(&hbone),
        Role::Abuse(abuse) => abuse::run(&abuse),
        Role::Crowd(crowd) => crowd::run(&crowd),
        Role::Escape(escape) => escape::run(&escape),
        Role::Spoof(spoof) => spoof::run(&spoof),
    }
}
