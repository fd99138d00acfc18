//! Runs one load in a contender's client and reads what it achieved.

use super::arm::Arm;
use super::server;
use crate::load::{Connections, RoundTrips, Throughput};
use crate::programs;
use crate::shell::Output;
use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How much longer than its measurement a load may run: it connects first and closes last.
const SPARE: Duration = Duration::from_secs(30);

/// A request that takes longer has failed, as with `lab-load`.
const PATIENCE: &str = "10s";
/// Bytes a second that a slow reader takes, in curl's notation.
const SLOW: &str = "64k";
/// curl's exit code when its time is up.
const TIME_IS_UP: i32 = 28;

/// Streams that send as fast as they can.
pub(super) fn bulk(arm: &Arm, streams: u32, seconds: u32) -> Result<Throughput> {
    lab_load(arm, "bulk", &[("--streams", streams)], seconds)
}

/// Connections on each of which one message of `size` bytes goes there and back, again and again.
pub(super) fn round_trips(
    arm: &Arm,
    size: u32,
    connections: u32,
    seconds: u32,
) -> Result<RoundTrips> {
    let options = [("--size", size), ("--connections", connections)];
    lab_load(arm, "rtt", &options, seconds)
}

/// Connections that are opened, used once and closed, `concurrency` at a time.
pub(super) fn connections(arm: &Arm, concurrency: u32, seconds: u32) -> Result<Connections> {
    lab_load(arm, "connect", &[("--concurrency", concurrency)], seconds)
}

/// HTTP requests on connections that stay open: how many were answered a second.
pub(super) fn http(arm: &Arm, connections: u32, seconds: u32) -> Result<f64> {
    let (connections, time) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let url = format!("http://{}/", arm.web);
    let argv = [
        "wrk",
        "-t1",
        &connections,
        &time,
        "--timeout",
        PATIENCE,
        &url,
    ];
    let output = run(arm, &argv, seconds)?;
    parse_wrk(&output.stdout)
}

/// A reader that takes little of a large page: how many bytes it got.
pub(super) fn slow_reader(arm: &Arm, seconds: u32) -> Result<f64> {
    let url = format!("http://{}{}", arm.web, server::LARGE);
    let time = seconds.to_string();
    let argv = [
        "curl",
        "--silent",
        "--limit-rate",
        SLOW,
        "--max-time",
        &time,
        "--output",
        "/dev/null",
        "--write-out",
        "%{size_download}",
        &url,
    ];
    let limit = Duration::from_secs(seconds.into()) + SPARE;
    let output = arm.client.place.run(&argv, limit)?;
    ensure!(
        output.status.code() == Some(TIME_IS_UP),
        "curl {url}: {}, after {} bytes",
        output.summary(),
        output.stdout
    );
    let bytes: f64 = output.stdout.trim().parse().context("curl tells no size")?;
    ensure!(bytes > 0.0, "curl {url} got nothing");
    Ok(bytes)
}

fn lab_load<T: DeserializeOwned>(
    arm: &Arm,
    mode: &str,
    options: &[(&str, u32)],
    seconds: u32,
) -> Result<T> {
    let program = programs::binary("lab-load")?.to_string_lossy().into_owned();
    let mut argv = vec![
        program,
        mode.to_owned(),
        "--to".into(),
        arm.load.to_string(),
    ];
    for (name, value) in options.iter().chain(&[("--seconds", seconds)]) {
        argv.extend([(*name).to_owned(), value.to_string()]);
    }
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let output = run(arm, &argv, seconds)?;
    serde_json::from_str(&output.stdout)
        .with_context(|| format!("lab-load {mode} printed {:?}", output.stdout))
}

fn run(arm: &Arm, argv: &[&str], seconds: u32) -> Result<Output> {
    let limit = Duration::from_secs(seconds.into()) + SPARE;
    let output = arm.client.place.run(argv, limit)?;
    ensure!(
        output.success(),
        "`{}`: {}",
        argv.join(" "),
        output.summary()
    );
    Ok(output)
}

/// Reads the rate in wrk's summary; requests that failed are an error.
fn parse_wrk(text: &str) -> Result<f64> {
    let mut rate = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with("Socket errors:") || line.starts_with("Non-2xx") {
            bail!("wrk: {line}");
        }
        if let Some(value) = line.strip_prefix("Requests/sec:") {
            rate = Some(value.trim().parse()?);
        }
    }
    rate.with_context(|| format!("wrk printed no rate: {text}"))
}

#[cfg(test)]
mod tests {
    use super::parse_wrk;

    const SUMMARY: &str = "Running 2s test @ http://10.88.2.10:80/\n  1 threads and 64 connections\n\
        \x20   Req/Sec    99.77k     6.57k  107.60k    80.00%\n  198552 requests in 2.00s, 30.67MB read\n\
        Requests/sec:  99168.37\nTransfer/sec:     15.32MB\n";

    #[test]
    fn a_summary_is_read_and_failed_requests_are_an_error() {
        assert_eq!(parse_wrk(SUMMARY).unwrap(), 99_168.37);
        let broken = format!("{SUMMARY}  Socket errors: connect 0, read 3, write 0, timeout 0\n");
        assert!(parse_wrk(&broken).is_err());
        assert!(parse_wrk("  Non-2xx or 3xx responses: 9\nRequests/sec:  7.00\n").is_err());
        assert!(parse_wrk("unable to connect to 10.88.2.10:80 Connection refused\n").is_err());
    }
}
