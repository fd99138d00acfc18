//! Our client against our server. Whatever the windows, the pieces and the order: no window is exceeded,
//! everything comes once and in order, and in the end no stream and no byte of a window is missing.

use crate::endpoint::{Ending, Endpoint, Role};
use crate::pipe::piece;
use crate::plan::Plan;
use crate::windows::Windows;
use mesh_http2::{Config, ErrorCode};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const PREFACE: usize = 24;
/// Steps without anything happening after which nothing ever will.
const STUCK: usize = 10_000;

struct Simulation {
    client: Endpoint,
    server: Endpoint,
    /// On the way from the client to the server, and back.
    up: Vec<u8>,
    down: Vec<u8>,
    client_windows: Windows,
    server_windows: Windows,
    rng: StdRng,
}

fn config(rng: &mut StdRng) -> Config {
    let window = |rng: &mut StdRng| match rng.random_range(0..4) {
        0 => rng.random_range(1..100),
        1 => rng.random_range(100..65_535),
        _ => rng.random_range(65_535..200_000),
    };
    Config {
        stream_window: window(rng),
        connection_window: window(rng),
        max_frame_size: rng.random_range(0..100_000),
        max_streams: rng.random_range(1..20),
        max_header_list: 60_000,
    }
}

impl Simulation {
    fn new(seed: u64, plans: &[Plan]) -> (Self, [Config; 2]) {
        let mut rng = StdRng::seed_from_u64(seed);
        let configs = [config(&mut rng), config(&mut rng)];
        let [client, server] = configs;
        let simulation = Self {
            client: Endpoint::new(Role::Client, client, seed << 1, plans),
            server: Endpoint::new(Role::Server, server, seed << 1 | 1, plans),
            up: Vec::new(),
            down: Vec::new(),
            client_windows: Windows::new(PREFACE, 0),
            server_windows: Windows::new(0, PREFACE),
            rng,
        };
        (simulation, configs)
    }

    /// Something at one end, or on the way. False when there was nothing to do.
    fn step(&mut self) -> bool {
        match self.rng.random_range(0..4) {
            0 => {
                let acted = self.client.act();
                self.client_windows.sent(&self.client.out);
                self.up.append(&mut self.client.out);
                acted
            }
            1 => {
                let acted = self.server.act();
                self.server_windows.sent(&self.server.out);
                self.down.append(&mut self.server.out);
                acted
            }
            2 => {
                let length = piece(&mut self.rng, self.up.len());
                let bytes: Vec<u8> = self.up.drain(..length).collect();
                self.server_windows.delivered(&bytes);
                self.server.receive(&bytes);
                !bytes.is_empty()
            }
            _ => {
                let length = piece(&mut self.rng, self.down.len());
                let bytes: Vec<u8> = self.down.drain(..length).collect();
                self.client_windows.delivered(&bytes);
                self.client.receive(&bytes);
                !bytes.is_empty()
            }
        }
    }

    /// Runs until both ends are done and nothing is on its way.
    fn run(&mut self) {
        let mut idle = 0;
        while idle < STUCK {
            idle = if self.step() { 0 } else { idle + 1 };
            let done = self.client.is_done() && self.server.is_done();
            let quiet = self.up.is_empty() && self.down.is_empty();
            if done && quiet && idle > 100 {
                return;
            }
        }
        let (client, server) = (self.client.describe(), self.server.describe());
        panic!("stuck\nclient: {client}\nserver: {server}");
    }

    /// How many tunnels have ended; panics unless both ends saw each end alike.
    fn check_endings(&self) -> usize {
        let (client, server) = (&self.client.endings, &self.server.endings);
        let known = |number: &u32| client.contains_key(number);
        assert!(server.keys().all(known), "the client did not open it");
        for (number, &ending) in client {
            match server.get(number) {
                Some(&there) => assert!(agree([ending, there]), "{number}: {ending:?}, {there:?}"),
                // The server had no room for it, and the client had given up when it heard.
                None => {
                    let early = self.client.early.contains(number);
                    assert!(early && matches!(ending, Ending::ResetHere(_)), "{number}");
                }
            }
        }
        client.len()
    }

    /// One more tunnel that moves this much in each direction.
    fn run_one(&mut self, number: u32, up: i64, down: i64) {
        let bytes = |bytes| usize::try_from(bytes).unwrap_or_default();
        let plan = Plan::peaceful(number, bytes(up), bytes(down));
        self.client.planned = [plan.clone()].into();
        self.server.planned = [plan].into();
        self.run();
        assert_eq!(self.client.endings[&number], Ending::Complete);
    }
}

fn run(seed: u64) {
    let plans: Vec<Plan> = (0..40).map(|n| Plan::new(seed, n, 60_000)).collect();
    let (mut simulation, [client, server]) = Simulation::new(seed, &plans);
    simulation.run();
    assert_eq!(simulation.check_endings(), plans.len());
    // What was released and not announced is less than half of a window. With exactly what is missing
    // to the half it is announced, so all of the window is there: unless a byte was lost on the way.
    let missing = |config: Config, windows: &Windows| {
        let size = i64::from(config.connection_window.max(65_535));
        let waiting = size - windows.connection;
        assert!((0..size / 2).contains(&waiting), "{waiting} of {size}");
        (size, size / 2 - waiting)
    };
    let (up_size, up) = missing(server, &simulation.client_windows);
    let (down_size, down) = missing(client, &simulation.server_windows);
    simulation.run_one(1000, up, down);
    assert_eq!(simulation.client_windows.connection, up_size);
    assert_eq!(simulation.server_windows.connection, down_size);
    for end in [&simulation.client, &simulation.server] {
        assert_eq!(end.connection.streams(), 0);
    }
}

/// Whether two ends can have seen the same stream so. Both may reset it at once.
pub(crate) fn agree(ends: [Ending; 2]) -> bool {
    use Ending::{Complete, ResetHere, ResetThere};
    match ends {
        [Complete, Complete] | [ResetHere(_), ResetHere(_)] => true,
        [ResetHere(a), ResetThere(b)] | [ResetThere(a), ResetHere(b)] => a == b,
        _ => false,
    }
}

#[test]
fn everything_comes_once_and_in_order_and_nothing_is_left() {
    for seed in 0..30 {
        run(seed);
    }
}

#[test]
fn a_server_that_leaves_finishes_what_is_open() {
    for seed in 100..120 {
        let plans: Vec<Plan> = (0..40).map(|n| Plan::new(seed, n, 60_000)).collect();
        let (mut simulation, _) = Simulation::new(seed, &plans);
        while simulation.client.endings.len() < 10 {
            simulation.step();
        }
        simulation.server.connection.leave();
        let mut steps = 0;
        while !(simulation.client.connection.is_over() && simulation.server.connection.is_over()) {
            simulation.step();
            steps += 1;
            assert!(steps < 1_000_000, "{}", simulation.server.describe());
        }
        // Every stream that was opened ended as planned, none was cut off.
        let goaways = &simulation.client.goaways;
        assert_eq!(goaways.first(), Some(&ErrorCode::NO_ERROR));
        assert!(!simulation.client.connection.can_open());
        let ended = simulation.check_endings();
        assert_eq!(ended + simulation.client.planned.len(), plans.len());
    }
}

#[test]
fn both_ends_ping_while_tunnels_run() {
    let plans: Vec<Plan> = (0..20).map(|n| Plan::new(7, n, 60_000)).collect();
    let (mut simulation, _) = Simulation::new(7, &plans);
    for n in 0..100_u64 {
        simulation.client.connection.ping(n.to_be_bytes());
        simulation.server.connection.ping((!n).to_be_bytes());
        for _ in 0..50 {
            simulation.step();
        }
    }
    simulation.run();
    let pings: Vec<_> = (0..100_u64).map(u64::to_be_bytes).collect();
    assert_eq!(simulation.client.pongs, pings);
    let pings: Vec<_> = (0..100_u64).map(|n| (!n).to_be_bytes()).collect();
    assert_eq!(simulation.server.pongs, pings);
}
