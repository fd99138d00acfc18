//! The lab itself, without the mesh: its network carries, its captures see, its guards remove.

use anyhow::{Context as _, Result};
use lab::apps::{Nginx, Postgres, Redis, curl, curl_fails, psql, psql_session, redis_cli};
use lab::capture::Capture;
use lab::serial::serial;
use lab::{Lab, LabId, janitor, netns, wait};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Set for the copy of a test that is to be killed, to the file in which it names its lab.
const VICTIM: &str = "WEFT_LAB_VICTIM";

#[test]
fn pods_reach_each_other_and_the_capture_sees_what_they_say() -> Result<()> {
    let _one = serial();
    for nodes in [2, 3] {
        let mut lab = Lab::new(nodes)?;
        let client = lab.add_pod(1, "shop", "client")?;
        let server = lab.add_pod(2, "shop", "server")?;
        let neighbour = lab.add_pod(1, "shop", "neighbour")?;
        let nginx = Nginx::start(&server)?;
        let _near = Nginx::start(&neighbour)?;
        let mut wire = Capture::wire(&lab)?;
        for pod in [&server, &neighbour] {
            for address in pod.addresses() {
                let answer = curl(
                    &client,
                    SocketAddr::new(address, 80),
                    "/needle-in-the-clear",
                )?;
                assert_eq!(answer.status, 200);
                assert!(
                    answer.body.contains(&pod.key()),
                    "{} answered {}",
                    address,
                    answer.body
                );
            }
        }
        let logged: Vec<_> = nginx
            .requests()?
            .iter()
            .map(|request| request.address)
            .collect();
        assert_eq!(logged, client.addresses());
        let trace = wire.trace()?;
        assert!(trace.contains(b"needle-in-the-clear"));
        assert!(trace.contains(nginx.secret.as_bytes()));
        assert!(
            !trace.contains(_near.secret.as_bytes()),
            "a neighbour's answer crossed the wire"
        );
        assert!(trace.packets_on_port(80) > 0);
        assert_eq!(trace.packets_on_port(15008), 0);
        assert_eq!(
            wire.stop()?.tls_records_to(15008),
            lab::pcap::TlsRecords::default()
        );
    }
    Ok(())
}

#[test]
fn databases_answer_over_both_address_families() -> Result<()> {
    let _one = serial();
    let mut lab = Lab::new(2)?;
    let client = lab.add_pod(1, "shop", "client")?;
    let server = lab.add_pod(2, "shop", "server")?;
    let _databases = (Redis::start(&server)?, Postgres::start(&server)?);
    for address in server.addresses() {
        let at = |port| SocketAddr::new(address, port);
        let set = redis_cli(&client, at(6379), &["SET", "word", "kept"])?;
        assert!(set.success(), "{}{}", set.stdout, set.stderr);
        assert_eq!(
            redis_cli(&client, at(6379), &["GET", "word"])?.stdout,
            "kept\n"
        );
        let wrong = redis_cli(&client, at(6379), &["NO-SUCH-COMMAND"])?;
        assert!(
            !wrong.success(),
            "redis-cli hides an error: {}",
            wrong.stdout
        );
        let rows = psql(&client, at(5432), "SELECT reverse('live')")?;
        assert_eq!(rows.stdout, "evil\n", "{}", rows.stderr);
    }
    assert_eq!(netns::listening(server.place.netns())?, [5432, 6379].into());

    let mut session = psql_session(
        &client,
        SocketAddr::new(server.v4.into(), 5432),
        &lab.dir().join("psql"),
    )?;
    session.write_line("SELECT 6 * 7;")?;
    session.ready("an answer", wait::DEADLINE, |log| Ok(log.contains("42")))?;
    session.write_line("SELECT pg_terminate_backend(pg_backend_pid());")?;
    assert!(
        !session.wait(wait::DEADLINE)?.success(),
        "psql does not notice that it was cut"
    );

    let refused = curl_fails(&client, SocketAddr::new(server.v4.into(), 81), "/")?;
    assert!(refused.contains("curl: (7)"), "{refused}");
    Ok(())
}

#[test]
fn a_command_runs_in_the_pods_cgroup_and_ends_at_its_limit() -> Result<()> {
    let _one = serial();
    let mut lab = Lab::new(1)?;
    let pod = lab.add_pod(1, "shop", "web")?;
    let output = pod
        .place
        .run(&["cat", "/proc/self/cgroup"], wait::DEADLINE)?;
    let group = format!("/{}/node1/pods/pod{}/app", lab.id(), pod.uid());
    assert!(
        output
            .stdout
            .lines()
            .any(|line| line == format!("0::{group}")),
        "{}",
        output.stdout
    );
    let late = pod
        .place
        .run(&["sleep", "60"], std::time::Duration::from_millis(100));
    assert!(late.unwrap_err().to_string().contains("did not end within"));
    Ok(())
}

#[test]
fn nothing_is_left_after_drop_and_after_a_panic() -> Result<()> {
    let _one = serial();
    let mut lab = Lab::new(2)?;
    let pod = lab.add_pod(1, "shop", "web")?;
    let nginx = Nginx::start(&pod)?;
    let (id, cgroup) = (lab.id().clone(), lab.cgroup().to_owned());
    assert_eq!(
        leftovers(&id, &cgroup),
        ["cgroup", "directory", "mount", "network namespaces"]
    );
    drop(lab);
    drop(nginx);
    assert_eq!(leftovers(&id, &cgroup), [""; 0]);

    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let lab = Lab::new(1).unwrap();
        sender
            .send((lab.id().clone(), lab.cgroup().to_owned()))
            .unwrap();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let (id, cgroup) = receiver.recv()?;
    assert_eq!(leftovers(&id, &cgroup), [""; 0]);
    Ok(())
}

#[test]
fn a_dead_owners_lab_goes_at_the_next_start_and_a_live_one_stays() -> Result<()> {
    let _one = serial();
    let (mut victim, id, cgroup) = victim()?;
    assert_eq!(leftovers(&id, &cgroup).len(), 4);
    let other = Lab::new(1)?;
    assert_eq!(
        leftovers(&id, &cgroup).len(),
        4,
        "a live lab of another process was touched"
    );
    drop(other);
    victim.kill()?;
    victim.wait()?;
    let pods = fs::read_dir(cgroup.join("node1/pods"))?;
    let pod = pods
        .filter_map(Result::ok)
        .find(|entry| entry.path().is_dir())
        .context("the victim's pod")?;
    let pids = fs::read_to_string(pod.path().join("app/cgroup.procs"))?;
    assert!(
        !pids.is_empty(),
        "the victim's processes must outlive it, or this test shows nothing"
    );
    drop(Lab::new(1)?);
    assert_eq!(leftovers(&id, &cgroup), [""; 0]);
    for pid in pids.lines() {
        // A zombie is dead: its parent is whoever adopts orphans on this machine.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(
            stat.is_empty() || stat.contains(") Z "),
            "process {pid} still runs: {stat}"
        );
    }
    Ok(())
}

#[test]
fn a_signal_removes_the_lab() -> Result<()> {
    let _one = serial();
    let (mut victim, id, cgroup) = victim()?;
    let pid = rustix::process::Pid::from_child(&victim);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = wait::until(
        "the victim's end",
        wait::DEADLINE,
        || Ok(victim.try_wait()?),
    )?;
    assert_eq!(status.code(), Some(143));
    assert_eq!(leftovers(&id, &cgroup), [""; 0]);
    Ok(())
}

/// Not a test by itself: the process that the tests above start, kill and clean up after.
#[test]
fn victim_process() -> Result<()> {
    let Some(file) = std::env::var_os(VICTIM) else {
        return Ok(());
    };
    let mut lab = Lab::new(2)?;
    let pod = lab.add_pod(1, "shop", "web")?;
    let _nginx = Nginx::start(&pod)?;
    let draft = Path::new(&file).with_extension("draft");
    fs::write(&draft, format!("{} {}", lab.id(), lab.cgroup().display()))?;
    fs::rename(draft, file)?;
    std::thread::sleep(std::time::Duration::from_secs(120));
    Ok(())
}

fn victim() -> Result<(Child, LabId, std::path::PathBuf)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("lab");
    let child = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim_process"])
        .env(VICTIM, &file)
        .stdout(Stdio::null())
        .spawn()?;
    let text = wait::until("the victim's lab", wait::DEADLINE, || {
        Ok(fs::read_to_string(&file).ok())
    })?;
    let (name, cgroup) = text.split_once(' ').context("two words")?;
    let id = janitor::all()?
        .into_iter()
        .find(|id| id.to_string() == name)
        .context("its lab")?;
    Ok((child, id, cgroup.into()))
}

/// What is still there of a lab.
fn leftovers(id: &LabId, cgroup: &Path) -> Vec<&'static str> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let name = id.to_string();
    let found = [
        ("cgroup", cgroup.exists()),
        ("directory", id.dir().exists()),
        (
            "mount",
            mounts
                .lines()
                .any(|line| line.contains(&name) && line.contains(" - bpf ")),
        ),
        (
            "network namespaces",
            netns::list().iter().any(|netns| netns.starts_with(&name)),
        ),
    ];
    found
        .into_iter()
        .filter(|(_, there)| *there)
        .map(|(what, _)| what)
        .collect()
}
