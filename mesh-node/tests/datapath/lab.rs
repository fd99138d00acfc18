//! A pod, a stranger and an agent: two network namespaces joined by a veth pair, two cgroups, a bpffs
//! of its own. Everything goes when the lab is dropped; what a killed run left goes at the next start.

use mesh_node::bpf::{Datapath, DatapathOptions, Listeners};
use mesh_node::sys::Netns;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::net::{Shutdown, shutdown};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::app::App;

pub(crate) const POD4: &str = "10.203.0.2";
pub(crate) const POD6: &str = "fd77:3::2";
pub(crate) const PEER4: &str = "10.203.0.1";
pub(crate) const PEER6: &str = "fd77:3::1";
const PREFIX: &str = "weft-lab-dp-";

/// The process moves between cgroups, so one lab at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(host), port)
}

/// The lab. Fields are dropped in this order.
pub(crate) struct Lab {
    pub(crate) app: App,
    pub(crate) pod: Netns,
    pub(crate) peer: Netns,
    bpffs: OwnedFd,
    names: Names,
    _one: MutexGuard<'static, ()>,
}

impl Lab {
    /// Builds it, with an application that runs in the pod.
    pub(crate) fn new() -> Self {
        let one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces and loads eBPF programs: run it as root"
        );
        remove_leftovers();
        let names = Names::create();
        let pod = Netns::open(names.pod_path()).unwrap();
        let peer = Netns::open(names.peer_path()).unwrap();
        let app = App::start(&names.pod_cgroup(), &names.pod_path());
        Self {
            app,
            pod,
            peer,
            bpffs: bpffs(),
            names,
            _one: one,
        }
    }

    /// A directory in a bpffs that nobody else sees.
    pub(crate) fn bpffs(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/weft", self.bpffs.as_raw_fd()))
    }

    pub(crate) fn cgroup(&self) -> PathBuf {
        self.names.cgroup.clone()
    }

    /// A cgroup below the agent's.
    pub(crate) fn enter_agent_subgroup(&self) {
        let path = self.names.cgroup.join("agent/worker");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.procs"), "0").unwrap();
    }

    pub(crate) fn options(&self) -> DatapathOptions {
        DatapathOptions {
            cgroup: self.cgroup(),
            bpffs: self.bpffs(),
            node_addresses: Vec::new(),
            exclude_ports: vec![9999],
            exclude_cidrs: vec!["192.0.2.0/24".parse().unwrap()],
            max_pods: 16,
            max_flows: 16384,
        }
    }

    pub(crate) fn open(&self) -> Datapath {
        Datapath::open(&self.options()).unwrap()
    }

    pub(crate) fn addresses() -> [IpAddr; 2] {
        [ip(POD4), ip(POD6)]
    }

    /// Opens the agent's listeners and enrolls the pod.
    pub(crate) fn enroll(&self, datapath: &Arc<Datapath>) -> Agent {
        let agent = Agent::start(&self.pod, datapath);
        agent.enroll(datapath, &self.pod, &Self::addresses());
        agent
    }

    /// A network namespace that ends with this descriptor.
    pub(crate) fn short_lived_netns(&self) -> Netns {
        let name = format!("{}-gone", self.names.id);
        run(&["netns", "add", &name]);
        let netns = Netns::open(Path::new("/run/netns").join(&name));
        run(&["netns", "del", &name]);
        netns.unwrap()
    }

    /// Waits, at most for seconds, until something holds.
    pub(crate) fn wait_until(&self, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "still not so after 20 s");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Connects from the stranger's side: the line that the far end sends, or the error's kind.
    pub(crate) fn dial_from_peer(&self, to: SocketAddr) -> String {
        self.peer.run(|| dial(to)).unwrap()
    }
}

/// Connects and reads one line.
pub(crate) fn dial(to: SocketAddr) -> String {
    let answer = || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        read_line(&mut stream)
    };
    answer().unwrap_or_else(|e: std::io::Error| format!("error: {:?}", e.kind()))
}

pub(crate) fn read_line(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Serves one line to each client until dropped.
pub(crate) struct Server {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(
        netns: &Netns,
        at: SocketAddr,
        line: impl Fn(&TcpStream) -> String + Send + 'static,
    ) -> Self {
        let listener = Arc::new(netns.run(|| TcpListener::bind(at)).unwrap().unwrap());
        let accepting = listener.clone();
        let thread = thread::spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                let line = line(&stream);
                let _ = writeln!(stream, "{line}");
            }
        });
        Self {
            listener,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Wakes the thread, and closes the port at once.
        let _ = shutdown(&*self.listener, Shutdown::Both);
        let _ = self.thread.take().unwrap().join();
    }
}

/// What the agent does in this lab: it tells each client how its connection arrived.
pub(crate) struct Agent {
    _outbound: Server,
    plaintext: Server,
    hbone: Server,
}

impl Agent {
    pub(crate) fn start(pod: &Netns, datapath: &Arc<Datapath>) -> Self {
        let datapath = datapath.clone();
        let outbound = Server::start(pod, address("::", 15001), move |stream| {
            let origin = datapath.original_destination(stream.as_fd()).unwrap();
            let origin = origin.map_or_else(|| "none".into(), |origin| origin.to_string());
            format!(
                "captured {origin} {}",
                canonical(stream.peer_addr().unwrap())
            )
        });
        let arrived = |how: &'static str| {
            move |stream: &TcpStream| {
                let local = canonical(stream.local_addr().unwrap());
                format!(
                    "{how} {local} {}",
                    canonical(stream.peer_addr().unwrap()).ip()
                )
            }
        };
        Self {
            _outbound: outbound,
            plaintext: Server::start(pod, address("::", 15006), arrived("plaintext")),
            hbone: Server::start(pod, address("::", 15008), arrived("hbone")),
        }
    }

    pub(crate) fn listeners(&self) -> Listeners<'_> {
        Listeners {
            plaintext: self.plaintext.listener.as_fd(),
            hbone: self.hbone.listener.as_fd(),
        }
    }

    pub(crate) fn enroll(&self, datapath: &Datapath, pod: &Netns, addresses: &[IpAddr]) {
        datapath.enroll(pod, addresses, &self.listeners()).unwrap();
    }
}

pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A bpffs that is mounted nowhere, and ends with its descriptor.
fn bpffs() -> OwnedFd {
    let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(&context).unwrap();
    let attributes = MountAttrFlags::empty();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap()
}

/// What has a name in the system.
struct Names {
    id: String,
    cgroup: PathBuf,
    before: PathBuf,
}

impl Names {
    fn create() -> Self {
        let id = format!("{PREFIX}{}", std::process::id());
        let root = cgroup_root();
        let names = Self {
            cgroup: root.join(&id),
            before: own_cgroup(&root),
            id,
        };
        fs::create_dir_all(names.pod_cgroup()).unwrap();
        let agent = names.cgroup.join("agent");
        fs::create_dir_all(&agent).unwrap();
        fs::write(agent.join("cgroup.procs"), "0").unwrap();
        let (pod, peer) = (names.pod_name(), names.peer_name());
        run(&["netns", "add", &pod]);
        run(&["netns", "add", &peer]);
        run(&[
            "-n", &pod, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
            &peer,
        ]);
        for (name, v4, v6) in [(&pod, POD4, POD6), (&peer, PEER4, PEER6)] {
            run(&[
                "-n",
                name,
                "addr",
                "add",
                &format!("{v4}/24"),
                "dev",
                "eth0",
            ]);
            run(&[
                "-n",
                name,
                "addr",
                "add",
                &format!("{v6}/64"),
                "dev",
                "eth0",
                "nodad",
            ]);
            run(&["-n", name, "link", "set", "lo", "up"]);
            run(&["-n", name, "link", "set", "eth0", "up"]);
        }
        names
    }

    fn pod_name(&self) -> String {
        format!("{}-pod", self.id)
    }

    fn peer_name(&self) -> String {
        format!("{}-peer", self.id)
    }

    fn pod_path(&self) -> PathBuf {
        Path::new("/run/netns").join(self.pod_name())
    }

    fn peer_path(&self) -> PathBuf {
        Path::new("/run/netns").join(self.peer_name())
    }

    fn pod_cgroup(&self) -> PathBuf {
        self.cgroup.join("pod")
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
        remove(&self.id, &self.cgroup);
    }
}

fn run(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {message}",
        arguments.join(" ")
    );
}

fn remove(id: &str, cgroup: &Path) {
    for side in ["pod", "peer", "gone"] {
        let name = format!("{id}-{side}");
        if Path::new("/run/netns").join(&name).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
    // Applications of a killed run may still be about to notice.
    let _ = fs::write(cgroup.join("pod/cgroup.kill"), "1");
    let deadline = Instant::now() + Duration::from_secs(5);
    while cgroup.exists() && Instant::now() < deadline {
        // The leaves first; a cgroup is removed as a directory, once its processes are gone.
        for below in ["agent/worker", "agent", "pod", ""] {
            let _ = fs::remove_dir(cgroup.join(below));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Removes labs whose process is gone.
fn remove_leftovers() {
    let root = cgroup_root();
    for entry in fs::read_dir(&root).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX);
        if owner.is_some_and(is_gone) {
            remove(&name, &root.join(&name));
        }
    }
}

/// A process that was killed, and perhaps waits for its parent to notice, has no program.
fn is_gone(process: &str) -> bool {
    fs::read_link(Path::new("/proc").join(process).join("exe")).is_err()
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.expect("a cgroup v2 hierarchy must be mounted");
    PathBuf::from(mount.split(' ').nth(4).unwrap())
}

fn own_cgroup(root: &Path) -> PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    root.join(path)
}
