//! The load generator: what it counts is what a relay in the middle saw, and it notices what goes wrong.

use anyhow::{Context as _, Result};
use lab::load::{self, Connections, Direction, Idle, Open, RoundTrips, Server, Throughput};
use lab::wait;
use serde::de::DeserializeOwned;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(300);

/// What a relay does to a connection's bytes.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The last byte of each piece to the server is lost.
    Loses,
    /// The first byte of each piece to the client is changed.
    Changes,
    /// Nothing is carried to the client after the first pieces.
    Stops,
}

/// What a relay saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    up: AtomicU64,
    down: AtomicU64,
}

/// Serves the load, with a relay before it; returns the relay's address.
fn relayed(fault: Fault) -> Result<(SocketAddr, Arc<Seen>)> {
    let server = serve()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let seen = shared.clone();
            seen.connections.fetch_add(1, Ordering::SeqCst);
            seen.open.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                // A connection that breaks is for the load to notice.
                let _ = relay(&client, server, fault, &seen);
                seen.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    Ok((address, seen))
}

fn serve() -> Result<SocketAddr> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        let server = Server::bind("127.0.0.1:0".parse()?)?;
        tell.send(server.address()?)?;
        server.run()
    });
    told.recv().context("the server did not start")
}

fn relay(client: &TcpStream, server: SocketAddr, fault: Fault, seen: &Seen) -> Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    std::thread::scope(|scope| {
        scope.spawn(|| pump(client, &server, &seen.up, fault == Fault::Loses, |_| {}));
        let mut pieces = 0;
        pump(&server, client, &seen.down, false, |piece| {
            pieces += 1;
            match fault {
                Fault::Changes => piece[0] ^= 1,
                Fault::Stops if pieces > 1 => {
                    let _ = client.shutdown(Shutdown::Both);
                }
                _ => {}
            }
        })
    })
}

fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    count: &AtomicU64,
    lose: bool,
    mut touch: impl FnMut(&mut [u8]),
) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut first = true;
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(to.shutdown(Shutdown::Write)?);
        }
        touch(&mut buffer[..length]);
        // The request, which comes first, always gets through.
        let kept = length - usize::from(lose && !std::mem::take(&mut first));
        // Counted first: who has received it may look at the count at once.
        count.fetch_add(kept as u64, Ordering::SeqCst);
        to.write_all(&buffer[..kept])?;
    }
}

#[test]
fn bulk_counts_what_was_carried() -> Result<()> {
    for streams in [1, 3] {
        let (relay, seen) = relayed(Fault::None)?;
        let up = load::bulk(relay, streams, INTERVAL, Direction::Up)?;
        let (bytes, carried) = (up.bytes, seen.up.load(Ordering::SeqCst));
        assert!(
            0 < bytes && bytes < carried,
            "{bytes} in the interval, {carried} in all"
        );
        // The streams, and one connection to measure them.
        assert_eq!(seen.connections.load(Ordering::SeqCst), streams + 1);

        let (relay, seen) = relayed(Fault::None)?;
        let down = load::bulk(relay, streams, INTERVAL, Direction::Down)?;
        let (bytes, carried) = (down.bytes, seen.down.load(Ordering::SeqCst));
        assert!(
            0 < bytes && bytes < carried,
            "{bytes} in the interval, {carried} in all"
        );
        assert!(down.seconds >= INTERVAL.as_secs_f64());
    }
    Ok(())
}

#[test]
fn bulk_notices_a_lost_byte() -> Result<()> {
    let (relay, _) = relayed(Fault::Loses)?;
    let error = load::bulk(relay, 1, INTERVAL, Direction::Up).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("bytes were sent and"), "{error}");
    Ok(())
}

#[test]
fn round_trips_are_those_that_came_back() -> Result<()> {
    for (size, connections) in [(64, 1), (1, 1), (1024, 16), (load::MAX_MESSAGE, 2)] {
        let (relay, seen) = relayed(Fault::None)?;
        let outcome = load::rtt(relay, size, connections, INTERVAL)?;
        let (counted, size) = (outcome.round_trips, u64::from(size));
        assert!(counted >= connections as u64, "{counted} round trips");
        let back = seen.down.load(Ordering::SeqCst);
        assert!(counted * size < back && back.is_multiple_of(size));
        assert!(0.0 < outcome.p50_us && outcome.p50_us <= outcome.p99_us);
        assert!(outcome.p99_us <= outcome.p999_us);
        assert_eq!(seen.connections.load(Ordering::SeqCst), connections);
    }
    Ok(())
}

#[test]
fn a_round_trip_notices_what_is_not_its_message() -> Result<()> {
    for connections in [1, 4] {
        let (relay, _) = relayed(Fault::Changes)?;
        let error = load::rtt(relay, 64, connections, INTERVAL).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("brought back something else"), "{error}");
    }
    Ok(())
}

#[test]
fn a_round_trip_notices_a_connection_that_ends() -> Result<()> {
    for connections in [1, 4] {
        let (relay, _) = relayed(Fault::Stops)?;
        let error = load::rtt(relay, 64, connections, INTERVAL).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(&relay.to_string()), "{error}");
    }
    Ok(())
}

#[test]
fn connections_are_those_that_were_opened() -> Result<()> {
    let (relay, seen) = relayed(Fault::None)?;
    let counted = load::connect(relay, 8, INTERVAL)?.connections;
    let opened = seen.connections.load(Ordering::SeqCst) as u64;
    assert!(
        0 < counted && counted < opened,
        "{counted} counted of {opened}"
    );
    // One byte came back on each, and each is over.
    assert_eq!(seen.down.load(Ordering::SeqCst), opened);
    wait::until_true("the end of all connections", wait::DEADLINE, || {
        Ok(seen.open.load(Ordering::SeqCst) == 0)
    })
}

#[test]
fn idle_holds_exactly_what_it_says() -> Result<()> {
    let (relay, seen) = relayed(Fault::None)?;
    let idle = Idle::open(relay, 200)?;
    assert_eq!(idle.len(), 200);
    assert_eq!(seen.open.load(Ordering::SeqCst), 200);
    assert_eq!(seen.down.load(Ordering::SeqCst), 200);
    idle.check()?;
    drop(idle);
    wait::until_true("the end of all connections", wait::DEADLINE, || {
        Ok(seen.open.load(Ordering::SeqCst) == 0)
    })
}

#[test]
fn a_refused_connection_names_the_server() -> Result<()> {
    // Bound and not listening: nobody else can have this port.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    taken.bind(&"127.0.0.1:0".parse::<SocketAddr>()?.into())?;
    let nobody = taken.local_addr()?.as_socket().context("no address")?;
    let failures = [
        load::bulk(nobody, 1, INTERVAL, Direction::Up).err(),
        load::rtt(nobody, 1, 1, INTERVAL).err(),
        load::connect(nobody, 1, INTERVAL).err(),
        Idle::open(nobody, 1).err(),
    ];
    for error in failures {
        let error = format!("{:#}", error.context("it was not refused")?);
        assert!(error.contains(&nobody.to_string()), "{error}");
        assert!(error.contains("refused"), "{error}");
    }
    Ok(())
}

#[test]
fn the_program_prints_one_object_for_each_load() -> Result<()> {
    let mut server = lab_load(&["serve", "--listen", "127.0.0.1:0"])?;
    let listening: serde_json::Value = line(&mut server)?;
    let to = listening["listening"].as_str().context("no address")?;
    let to = ["--to", to];
    let bulk = ["bulk", "--streams", "2", "--seconds", "0.2"];
    assert!(finish::<Throughput>(&[&bulk[..], &to].concat())?.bytes > 0);
    let rtt = [
        "rtt",
        "--size",
        "9",
        "--connections",
        "2",
        "--seconds",
        "0.2",
    ];
    assert!(finish::<RoundTrips>(&[&rtt[..], &to].concat())?.round_trips > 0);
    let connect = ["connect", "--concurrency", "2", "--seconds", "0.2"];
    assert!(finish::<Connections>(&[&connect[..], &to].concat())?.connections > 0);

    let mut idle = lab_load(&[&["idle", "--connections", "300"][..], &to].concat())?;
    assert_eq!(line::<Open>(&mut idle)?.open, 300);
    assert!(idle.try_wait()?.is_none(), "it holds them");
    drop(idle.stdin.take());
    assert!(idle.wait()?.success());

    let mut idle = lab_load(&[&["idle", "--connections", "3"][..], &to].concat())?;
    line::<Open>(&mut idle)?;
    server.kill()?;
    server.wait()?;
    drop(idle.stdin.take());
    let output = idle.wait_with_output()?;
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr)?;
    assert!(complaint.contains("3 of 3 idle connections"), "{complaint}");
    Ok(())
}

fn lab_load(arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab-load"));
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// The first line that a program prints.
fn line<T: DeserializeOwned>(program: &mut Child) -> Result<T> {
    let stdout = program.stdout.as_mut().context("no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("it printed {line:?}"))
}

/// The only thing that a program prints.
fn finish<T: DeserializeOwned>(arguments: &[&str]) -> Result<T> {
    let output = lab_load(arguments)?.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
