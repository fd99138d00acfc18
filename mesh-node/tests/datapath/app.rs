//! The application: a child process in the pod's cgroup and network namespace, which knows nothing
//! of the mesh. It takes one command a line on its standard input, and answers each with one line.

use mesh_node::sys::Netns;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROLE: &str = "WEFT_DATAPATH_APP_NETNS";
const TIMEOUT: Duration = Duration::from_secs(10);
/// Marks an answer among what the test harness prints.
const MARK: char = '@';

/// How the connections ended that this process holds.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Connections that this process's servers accepted.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);

/// The application's process; killed when dropped.
pub(crate) struct App {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl App {
    /// Starts the application in a cgroup and a network namespace.
    pub(crate) fn start(cgroup: &Path, netns: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["app::role", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, netns)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It makes its first socket when told to, so it is in its cgroup by then.
        std::fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            commands,
            answers,
        }
    }

    /// Gives one command and waits for the answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.answers.read_line(&mut line).unwrap(),
                0,
                "the application ended"
            );
            // The harness prints the name of its one test first, on the same line.
            if let Some((_, answer)) = line.trim_end().split_once(MARK) {
                return answer.to_owned();
            }
        }
    }

    /// Connects, and answers `local peer reply`, or `error: ...`.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> String {
        self.ask(&format!("connect {to}"))
    }

    /// How many connections the application's servers have accepted.
    pub(crate) fn accepted(&mut self) -> u64 {
        self.ask("accepted").parse().unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side; without the variable this is an empty test.
#[test]
fn role() {
    let Some(netns) = std::env::var_os(ROLE) else {
        return;
    };
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        // Entered anew for each command; the threads that a command starts stay in it.
        let netns = Netns::open(&netns).unwrap();
        let answer = netns.run(|| obey(&line)).unwrap();
        let answer = answer.unwrap_or_else(|error| format!("error: {:?}", error.kind()));
        println!("{MARK}{answer}");
    }
}

fn obey(command: &str) -> io::Result<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["connect", to] => converse(&socket(to, None, None)?),
        ["connect", to, device] => converse(&socket(to, Some(device), None)?),
        ["connect-from", source, to] => converse(&socket_from(source, to)?),
        ["connect-mptcp", to] => converse(&socket(to, None, Some(Protocol::MPTCP))?),
        ["reconnect", first, second] => reconnect(first, second),
        ["race", threads, connects] => race(number(threads), number(connects)),
        ["hold", to] => hold(to),
        ["ended", count] => Ok(ended(number(count))),
        ["udp", to] => udp(to.parse().unwrap()),
        ["serve", at] => serve(at.parse().unwrap()),
        ["accepted"] => Ok(ACCEPTED.load(Ordering::SeqCst).to_string()),
        _ => panic!("unknown command {command:?}"),
    }
}

/// How held connections ended, once there are so many of them or none has ended for long.
fn ended(count: usize) -> String {
    let deadline = Instant::now() + TIMEOUT;
    while ENDED.lock().unwrap().len() < count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    ENDED.lock().unwrap().join(" ")
}

fn number(word: &str) -> usize {
    word.parse().unwrap()
}

fn socket(to: &str, device: Option<&str>, protocol: Option<Protocol>) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let protocol = protocol.unwrap_or(Protocol::TCP);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(protocol))?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect_timeout(&to.into(), TIMEOUT)?;
    Ok(socket.into())
}

fn socket_from(source: &str, to: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into())?;
    socket.connect_timeout(&to.into(), TIMEOUT)?;
    Ok(socket.into())
}

/// What the client sees of itself and of the far end, and what the far end has to say.
fn converse(stream: &TcpStream) -> io::Result<String> {
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    Ok(format!(
        "{} {} {}",
        stream.local_addr()?,
        stream.peer_addr()?,
        reply.trim_end()
    ))
}

/// Connects and reads on until the connection ends.
fn hold(to: &str) -> io::Result<String> {
    let stream = socket(to, None, None)?;
    let answer = converse(&stream)?;
    stream.set_read_timeout(None)?;
    thread::spawn(move || {
        let end = match (&stream).read(&mut [0]) {
            Ok(read) => format!("{read}"),
            Err(e) => format!("{:?}", e.kind()),
        };
        ENDED.lock().unwrap().push(end);
    });
    Ok(answer)
}

/// Uses one socket for two connects, with a disconnect in between.
fn reconnect(first: &str, second: &str) -> io::Result<String> {
    let first = socket(first, None, None)?;
    converse(&first)?;
    rustix::net::connect_unspec(&first)?;
    let again = Socket::from(first);
    again.connect(&SockAddr::from(second.parse::<SocketAddr>().unwrap()))?;
    converse(&again.into())
}

/// Dials distinct destinations from many threads at once; answers how many were wrong, and why.
fn race(threads: usize, connects: usize) -> io::Result<String> {
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            thread::spawn(move || (0..connects).filter_map(|n| dial(thread, n)).collect())
        })
        .collect();
    let wrong: Vec<String> = workers
        .into_iter()
        .flat_map(|w| -> Vec<String> { w.join().unwrap() })
        .collect();
    Ok(format!(
        "{} {}",
        wrong.len(),
        wrong.first().map_or("", String::as_str)
    ))
}

fn dial(thread: usize, n: usize) -> Option<String> {
    let (a, b) = ((n / 250) as u8, (n % 250) as u8);
    let v4 = Ipv4Addr::new(198, 18 + a, thread as u8, b);
    let ip: IpAddr = match n % 3 {
        0 => v4.into(),
        1 => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, thread as u16, n as u16).into(),
        _ => v4.to_ipv6_mapped().into(),
    };
    let to = SocketAddr::new(ip, 1000 + n as u16);
    let expected = SocketAddr::new(ip.to_canonical(), to.port()).to_string();
    let answer = socket(&to.to_string(), None, None).and_then(|stream| converse(&stream));
    match answer {
        Ok(text) if text.contains(&format!(" captured {expected} ")) => None,
        Ok(text) => Some(format!("{to} -> {text}")),
        Err(e) => Some(format!("{to} -> {e}")),
    }
}

fn udp(to: SocketAddr) -> io::Result<String> {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(to)?;
    socket.send(b"hello")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    let reply = String::from_utf8_lossy(&buffer[..length]);
    Ok(format!(
        "{} {} {reply}",
        socket.local_addr()?,
        socket.peer_addr()?
    ))
}

/// Serves: tells each client what `accept` and `getpeername` say of it.
fn serve(at: SocketAddr) -> io::Result<String> {
    let listener = TcpListener::bind(at)?;
    thread::spawn(move || {
        while let Ok((mut stream, accepted)) = listener.accept() {
            ACCEPTED.fetch_add(1, Ordering::SeqCst);
            let peer = stream
                .peer_addr()
                .map_or_else(|e| e.to_string(), |peer| peer.to_string());
            let _ = writeln!(stream, "app accept={accepted} peer={peer}");
            // Until the client has read it and closed.
            let _ = stream.set_read_timeout(Some(TIMEOUT));
            let _ = stream.read(&mut [0]);
        }
    });
    Ok("serving".into())
}
