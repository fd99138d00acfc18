//! Our ends against those of the `h2` crate.

use crate::endpoint::{Ending, Endpoint, Role};
use crate::library::{self, LEFT_OUT, Order, Orders, Progress};
use crate::pipe::Pipe;
use crate::plan::Plan;
use crate::simulation::agree;
use crate::windows::Windows;
use mesh_http2::{Config, ErrorCode};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::future::Future;
use tokio::task::JoinHandle;

const PREFACE: usize = 24;
/// Seeds of each test.
const RUNS: u64 = 10;
/// Rounds without anything happening after which nothing ever will.
const STUCK: usize = 10_000;

/// Windows, frames and streams of one run, for both ends.
struct Settings {
    ours: Config,
    theirs: Config,
}

impl Settings {
    fn new(rng: &mut StdRng) -> Self {
        let mut config = || Config {
            stream_window: match rng.random_range(0..3) {
                0 => rng.random_range(100..10_000),
                _ => rng.random_range(10_000..200_000),
            },
            connection_window: rng.random_range(65_535..300_000),
            max_frame_size: rng.random_range(16_384..100_000),
            max_streams: rng.random_range(2..20),
            max_header_list: 60_000,
        };
        Self {
            ours: config(),
            theirs: config(),
        }
    }

    fn server(&self) -> h2::server::Builder {
        let config = &self.theirs;
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_frame_size(config.max_frame_size)
            .max_concurrent_streams(config.max_streams)
            .max_header_list_size(config.max_header_list)
            .data_frame_budget(usize::MAX);
        builder
    }

    fn client(&self) -> h2::client::Builder {
        let config = &self.theirs;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .max_frame_size(config.max_frame_size)
            .max_header_list_size(config.max_header_list)
            .enable_push(false)
            .data_frame_budget(usize::MAX);
        builder
    }
}

/// One run: our end, the library's, and what lies between.
struct Run {
    ours: Endpoint,
    windows: Windows,
    pipe: Pipe,
    theirs: JoinHandle<Result<(), h2::Error>>,
    progress: Progress,
    rng: StdRng,
    /// We send no more.
    ended: bool,
    seed: u64,
    idle: usize,
}

impl Run {
    /// Lets both ends do something. Panics when neither has anything to do.
    async fn round(&mut self) {
        let before = self.ours.out.len();
        let mut acted = self.ours.act();
        self.windows.sent(&self.ours.out[before..]);
        let out = self.ours.out.len();
        if self.ended {
            self.ours.out.clear();
        }
        self.pipe.push(&mut self.ours.out);
        acted |= self.ours.out.len() != out;
        let before = self.progress.measure();
        for _ in 0..self.rng.random_range(1..5) {
            tokio::task::yield_now().await;
        }
        let came = self.pipe.pop();
        acted |= !came.is_empty() || self.progress.measure() != before;
        self.windows.delivered(&came);
        self.ours.receive(&came);
        self.idle = if acted { 0 } else { self.idle + 1 };
        if self.idle > STUCK {
            let (seed, ours) = (self.seed, self.ours.describe());
            panic!(
                "seed {seed} is stuck: ours: {ours}\ntheirs: {:?}",
                self.progress
            );
        }
    }

    fn is_quiet(&self) -> bool {
        self.ours.is_done() && self.ours.out.is_empty() && self.pipe.is_empty() && self.idle > 100
    }

    /// Runs until the library's connection has ended; how it did.
    async fn until_the_library_ends(&mut self) -> Result<(), h2::Error> {
        while !self.theirs.is_finished() {
            self.round().await;
            let over = self.pipe.library_ended() || self.ours.connection.is_over();
            if over && self.ours.out.is_empty() && self.pipe.is_empty() {
                self.pipe.end();
                self.ended = true;
            }
        }
        (&mut self.theirs).await.expect("no panic")
    }

    /// What is still on its way arrives, and the library's tasks come to their ends.
    async fn settle(&mut self) {
        while self.idle < 500 {
            self.round().await;
        }
    }

    /// How many tunnels have ended for both; panics unless they saw each end alike.
    fn check_endings(&self) -> usize {
        let theirs = self.progress.endings();
        let mut both = 0;
        for (number, &there) in &theirs {
            match self.ours.endings.get(number) {
                Some(&here) => {
                    assert!(agree([here, there]), "{number}: {here:?}, {there:?}");
                    both += 1;
                }
                // Asked for before it knew how many we allow, or after we said that we leave.
                None => assert_eq!(there, Ending::ResetThere(LEFT_OUT), "{number}"),
            }
        }
        for (number, here) in &self.ours.endings {
            // Asked for before we knew how many it allows, and given up before it answered.
            let early = self.ours.early.contains(number);
            let gone = early && matches!(here, Ending::ResetHere(_));
            assert!(theirs.contains_key(number) || gone, "{number}: {here:?}");
        }
        assert_eq!(self.ours.connection.streams(), 0);
        both
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime.expect("a runtime"), test);
}

fn plans(seed: u64) -> Vec<Plan> {
    (0..40).map(|n| Plan::new(seed, n, 100_000)).collect()
}

/// Our client, their server.
fn against_server(seed: u64, plans: &[Plan], orders: &Orders) -> Run {
    let mut rng = StdRng::seed_from_u64(seed);
    let settings = Settings::new(&mut rng);
    let (pipe, progress) = (Pipe::new(seed), Progress::default());
    let theirs = library::serve(
        pipe.clone(),
        settings.server(),
        plans.to_vec(),
        seed,
        progress.clone(),
        orders.clone(),
    );
    let mut ours = Endpoint::new(Role::Client, settings.ours, seed, plans);
    // The library stalls a stream whose window its SETTINGS make smaller than what it has received.
    ours.patient = true;
    Run {
        ours,
        windows: Windows::new(PREFACE, 0),
        pipe,
        theirs,
        progress,
        rng,
        ended: false,
        seed,
        idle: 0,
    }
}

/// Our server, their client. An `eager` one asks for all at once, before it knows how many we allow.
fn against_client(seed: u64, plans: &[Plan], eager: bool) -> Run {
    let mut rng = StdRng::seed_from_u64(seed);
    let settings = Settings::new(&mut rng);
    let (pipe, progress) = (Pipe::new(seed), Progress::default());
    let mut builder = settings.client();
    if !eager {
        builder.initial_max_send_streams(2);
    }
    let theirs = library::request(
        pipe.clone(),
        builder,
        plans.to_vec(),
        seed,
        progress.clone(),
    );
    Run {
        ours: Endpoint::new(Role::Server, settings.ours, seed, plans),
        windows: Windows::new(0, PREFACE),
        pipe,
        theirs,
        progress,
        rng,
        ended: false,
        seed,
        idle: 0,
    }
}

#[test]
fn our_client_and_the_librarys_server() {
    for seed in 0..RUNS {
        block_on(async {
            let plans = plans(seed);
            let orders = Orders::default();
            let mut run = against_server(seed, &plans, &orders);
            let mut rounds = 0;
            while !run.is_quiet() {
                run.round().await;
                rounds += 1;
                // Until the end: the library stalls a stream whose window becomes smaller than what it
                // has received, until it becomes larger again.
                if rounds % 50 == 0 && !run.ours.is_done() {
                    assert!(rounds < 100_000, "seed {seed}: {}", run.ours.describe());
                    let window = run.rng.random_range(1..100_000);
                    orders.give(Order::Window(window));
                    run.ours.connection.ping(*b"are you?");
                }
            }
            assert!(run.ours.pongs.iter().all(|pong| pong == b"are you?"));
            assert!(!run.ours.pongs.is_empty());
            run.ours.connection.leave();
            run.until_the_library_ends().await.expect("a graceful end");
            run.settle().await;
            assert_eq!(run.ours.endings.len(), plans.len());
            run.check_endings();
        });
    }
}

#[test]
fn our_server_and_the_librarys_client() {
    for seed in 0..RUNS {
        block_on(async {
            let plans = plans(seed);
            let eager = seed.is_multiple_of(4);
            let mut run = against_client(seed, &plans, eager);
            run.until_the_library_ends().await.expect("a graceful end");
            run.settle().await;
            assert_eq!(run.progress.count(), plans.len());
            let ended = run.check_endings();
            assert!(ended == plans.len() || (eager && ended > 0));
        });
    }
}

#[test]
fn the_librarys_server_leaves_and_our_streams_end_in_peace() {
    for seed in 100..100 + RUNS {
        block_on(async {
            let plans = plans(seed);
            let orders = Orders::default();
            let mut run = against_server(seed, &plans, &orders);
            while run.progress.count() < 10 {
                run.round().await;
            }
            orders.give(Order::Leave);
            run.until_the_library_ends().await.expect("a graceful end");
            run.settle().await;
            let goaways = &run.ours.goaways;
            assert!(goaways.iter().all(|&code| code == ErrorCode::NO_ERROR));
            assert!(!goaways.is_empty() && run.ours.connection.is_over());
            // What is not ended was not begun, or left out by their GOAWAY.
            run.check_endings();
            assert_eq!(run.ours.endings.len() + run.ours.planned.len(), plans.len());
        });
    }
}

#[test]
fn our_server_leaves_and_the_librarys_streams_end_in_peace() {
    for seed in 200..200 + RUNS {
        block_on(async {
            let plans = plans(seed);
            let mut run = against_client(seed, &plans, false);
            while run.ours.endings.len() < 10 {
                run.round().await;
            }
            run.ours.connection.leave();
            run.until_the_library_ends().await.expect("a graceful end");
            run.settle().await;
            assert!(run.ours.connection.is_over());
            assert_eq!(run.check_endings(), run.ours.endings.len());
        });
    }
}
