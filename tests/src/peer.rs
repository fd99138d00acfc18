//! The `lab-peer` program inside a pod: servers and clients with one behaviour each.

use crate::process::Process;
use crate::topology::Pod;
use crate::{programs, shell, wait};
use anyhow::{Result, ensure};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A server that runs in a pod; it ends when this value is dropped.
pub struct Server {
    process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a server with a behaviour of `lab-peer serve`; it listens when this returns.
    pub fn start(pod: &Pod, ip: IpAddr, port: u16, behaviour: &[&str]) -> Result<Self> {
        let address = SocketAddr::new(ip, port);
        let log = unused(pod, &format!("peer-{port}"));
        let (binary, listen) = (binary()?, address.to_string());
        let mut argv = vec![&*binary, "serve", &listen];
        argv.extend(behaviour);
        let mut process = pod.place.start(&argv, &log)?;
        process.ready("lab-peer to listen", wait::DEADLINE, |output| {
            Ok(output.contains("listening"))
        })?;
        Ok(Self { process, address })
    }

    /// Waits for a line that it prints.
    pub fn wait_for(&mut self, what: &str) -> Result<()> {
        wait_for(&mut self.process, what)
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; the lab ends it otherwise.
        let _ = self.process.kill();
    }
}

/// Runs a behaviour of `lab-peer client` to its end and returns what it printed.
pub fn client(
    pod: &Pod,
    server: SocketAddr,
    behaviour: &[&str],
    limit: Duration,
) -> Result<String> {
    let (binary, server) = (binary()?, server.to_string());
    let mut argv = vec![&*binary, "client", &server];
    argv.extend(behaviour);
    let output = shell::capture(&mut pod.place.command(&argv), b"", limit)?;
    ensure!(
        output.success(),
        "lab-peer client {behaviour:?}: {}",
        output.summary()
    );
    Ok(output.stdout.trim().to_owned())
}

/// A client that is left running.
pub struct Client(Process);

impl Client {
    /// Starts a behaviour of `lab-peer client`.
    pub fn start(pod: &Pod, server: SocketAddr, behaviour: &[&str]) -> Result<Self> {
        let address = server.to_string();
        Self::play(pod, &[&["client", &*address], behaviour].concat())
    }

    /// Starts any role of `lab-peer`.
    pub fn play(pod: &Pod, role: &[&str]) -> Result<Self> {
        let binary = binary()?;
        let argv = [&[&*binary], role].concat();
        Ok(Self(pod.place.start(&argv, &unused(pod, role[0]))?))
    }

    /// Waits for a line that it prints.
    pub fn wait_for(&mut self, what: &str) -> Result<()> {
        wait_for(&mut self.0, what)
    }

    /// Waits until it ends by itself, and returns what it printed.
    pub fn end(mut self, deadline: Duration) -> Result<String> {
        self.0.wait(deadline)?;
        Ok(self.output().trim().to_owned())
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.0.output()
    }

    /// Lets it go on.
    pub fn go_on(&mut self) -> Result<()> {
        self.0.write_line("")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
    }
}

/// Runs `lab-peer hbone` in a pod and returns its one line.
pub fn hbone(pod: &Pod, server: SocketAddr, rest: &[&str]) -> Result<String> {
    play(pod, &[&["hbone", &*server.to_string()], rest].concat())
}

/// Runs any role of `lab-peer` to its end and returns what it printed.
pub fn play(pod: &Pod, role: &[&str]) -> Result<String> {
    let binary = binary()?;
    let argv = [&[&*binary], role].concat();
    let output = pod.place.run(&argv, Duration::from_secs(60))?;
    ensure!(
        output.success(),
        "lab-peer {role:?}: {}",
        output.stderr.trim()
    );
    Ok(output.stdout.trim().to_owned())
}

fn wait_for(process: &mut Process, what: &str) -> Result<()> {
    let shown = format!("{what:?} from lab-peer");
    wait::until_true(&shown, wait::DEADLINE, || {
        Ok(process.output().contains(what))
    })
    .map_err(|e| e.context(format!("it printed: {}", process.tail())))
}

fn binary() -> Result<String> {
    Ok(programs::binary("lab-peer")?.to_string_lossy().into_owned())
}

/// A log file that no other process of the pod has.
fn unused(pod: &Pod, stem: &str) -> PathBuf {
    let candidates = (0..).map(|n: u32| pod.dir.join(format!("{stem}-{n}.log")));
    candidates
        .into_iter()
        .find(|path| !path.exists())
        .unwrap_or_else(|| pod.dir.join(stem))
}
