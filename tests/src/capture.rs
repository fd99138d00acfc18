//! Packet capture on a node's link. It is proven live before it is used, and before each look a marker
//! packet is sent and waited for: what was on the link before it is then in the file.

use crate::netns;
use crate::pcap::Trace;
use crate::process::Process;
use crate::topology::{Lab, Node, Pod, WIRE};
use crate::wait;
use anyhow::{Context as _, Result};
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const DISCARD: u16 = 9;
/// Captures that were started.
static CAPTURES: AtomicU32 = AtomicU32::new(0);

/// The files of one capture: what an earlier capture of the link saw is not this one's.
struct Files {
    packets: PathBuf,
    log: PathBuf,
}

impl Files {
    fn new(directory: &Path, link: &str) -> Self {
        let number = CAPTURES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{link}-{}-{number}", std::process::id());
        Self {
            packets: directory.join(format!("{name}.pcap")),
            log: directory.join(format!("{name}.tcpdump.log")),
        }
    }

    fn tcpdump<'a>(&'a self, link: &'a str) -> Vec<&'a str> {
        let path = self.packets.to_str().unwrap_or_default();
        let options = ["-n", "-p", "-s", "0", "-B", "65536", "-U", "-Z", "root"];
        let target = ["--immediate-mode", "-w", path];
        [&["tcpdump", "-i", link][..], &options, &target].concat()
    }
}

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
    netns: PathBuf,
    beyond: IpAddr,
    marks: u32,
}

impl Capture {
    /// Captures the wire between node 1 and node 2.
    pub fn wire(lab: &Lab) -> Result<Self> {
        let beyond = lab.node(2)?.v4.into();
        Self::start(lab.node(1)?, WIRE, beyond)
    }

    /// Captures the link of a pod, as its node sees it.
    pub fn pod(lab: &Lab, pod: &Pod) -> Result<Self> {
        Self::start(lab.node(pod.node)?, &pod.link, pod.v4.into())
    }

    /// `beyond` is an address that the node reaches over the link.
    fn start(node: &Node, link: &str, beyond: IpAddr) -> Result<Self> {
        let files = Files::new(&node.dir, link);
        let process = node.host.start(&files.tcpdump(link), &files.log)?;
        Self::proven(process, files, node.host.netns().to_owned(), beyond)
    }

    /// Captures a link of any network namespace, to files in `directory`. `beyond` is an address that is reached
    /// over the link.
    pub fn link(netns: &Path, link: &str, beyond: IpAddr, directory: &Path) -> Result<Self> {
        let files = Files::new(directory, link);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", netns.display()))
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .args(files.tcpdump(link));
        let process = Process::spawn(command, &files.log)?;
        Self::proven(process, files, netns.to_owned(), beyond)
    }

    /// The capture, once it was seen to see the link.
    fn proven(mut process: Process, files: Files, netns: PathBuf, beyond: IpAddr) -> Result<Self> {
        process.ready("tcpdump's \"listening on\"", wait::DEADLINE, |log| {
            Ok(log.contains("listening on"))
        })?;
        let mut capture = Self {
            process,
            file: files.packets,
            netns,
            beyond,
            marks: 0,
        };
        capture
            .flush()
            .context("the capture does not see the link")?;
        Ok(capture)
    }

    /// Everything captured so far, up to this call.
    pub fn trace(&mut self) -> Result<Trace> {
        self.flush()?;
        Trace::parse(&fs::read(&self.file)?)
    }

    /// Stops the capture and returns all of it.
    pub fn stop(mut self) -> Result<Trace> {
        self.flush()?;
        self.process.stop(wait::DEADLINE)?;
        Trace::parse(&fs::read(&self.file)?)
    }

    /// Sends a marker over the link and waits until the file has it.
    fn flush(&mut self) -> Result<()> {
        self.marks += 1;
        let marker = format!("weft-capture-marker-{}-{}", std::process::id(), self.marks);
        let target = SocketAddr::new(self.beyond, DISCARD);
        let send = || -> Result<()> {
            let sent = netns::within(&self.netns, || {
                UdpSocket::bind("0.0.0.0:0")?.send_to(marker.as_bytes(), target)
            })?;
            sent.map(|_| ())
                .with_context(|| format!("cannot send a marker to {target}"))
        };
        send()?;
        let mut sent = Instant::now();
        wait::until_true(
            "the capture to show the marker",
            Duration::from_secs(10),
            || {
                let file = fs::read(&self.file)?;
                if file
                    .windows(marker.len())
                    .any(|window| window == marker.as_bytes())
                {
                    return Ok(true);
                }
                if sent.elapsed() > Duration::from_millis(500) {
                    send()?;
                    sent = Instant::now();
                }
                Ok(false)
            },
        )
    }
}
