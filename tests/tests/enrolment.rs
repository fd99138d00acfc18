//! The enrolment socket against callers that should get nothing from it.

use anyhow::Result;
use lab::caller::{ask, dial, dial_as_nobody};
use lab::mesh::{Mesh, PodSpec};
use lab::serial::serial;
use lab::usage::descriptors;
use lab::wait;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn only_root_and_only_sound_requests_are_served() -> Result<()> {
    let _one = serial();
    let mut mesh = Mesh::start(1, None)?;
    mesh.config.namespace("shop", true)?;
    let pod = mesh.add_enrolled(&PodSpec {
        node: 1,
        namespace: "shop",
        name: "web",
        account: "web",
        app: "web",
        labels: &[],
    })?;
    let agent = mesh.agent(1)?;
    let socket = agent.enrolment_socket();
    let list = || ask(&socket, br#"{"op":"list"}"#, &[]);
    assert!(list()?.contains("\"web\""), "{}", list()?);

    let mode = fs::metadata(&socket)?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let refused = dial_as_nobody(&socket)?.map_err(|e| e.kind());
    assert_eq!(refused.err(), Some(ErrorKind::PermissionDenied));
    // It is the mode that kept that user out, not the folders above.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
    assert!(dial_as_nobody(&socket)?.is_ok());
    fs::set_permissions(&socket, fs::Permissions::from_mode(mode))?;

    let pid = agent.pid().unwrap_or_default();
    let before = descriptors(pid)?;
    let add = |namespace: &str, name: &str| {
        let netns = pod.place.netns().display();
        format!(r#"{{"op":"add","namespace":"{namespace}","name":"{name}","netns":"{netns}"}}"#)
            .into_bytes()
    };
    let (regular, netns) = (
        File::open("/proc/self/status")?,
        File::open(pod.place.netns())?,
    );
    let (regular, netns) = (regular.as_fd(), netns.as_fd());
    for (request, sent, answer) in [
        (b"nonsense".to_vec(), vec![], "malformed"),
        (vec![0xff; 100], vec![], "malformed"),
        (
            br#"{"op":"remove","namespace":"shop","name":"web","more":1}"#.to_vec(),
            vec![netns],
            "malformed",
        ),
        (br#"{"op":"flush"}"#.to_vec(), vec![], "malformed"),
        (
            [vec![b'['; 60_000], vec![b']'; 1]].concat(),
            vec![],
            "malformed",
        ),
        (vec![b' '; 100_000], vec![netns], "longer than 65536 bytes"),
        (
            add("shop", "other"),
            vec![],
            "no network namespace descriptor",
        ),
        (
            add("shop", "other"),
            vec![regular],
            "is no network namespace",
        ),
        (
            add("shop", "other"),
            vec![regular, netns, netns],
            "is no network namespace",
        ),
        (
            add("shop", "other"),
            vec![netns],
            "is enrolled as pod shop/web",
        ),
        (add("", "other"), vec![netns], "must not be empty"),
        (
            br#"{"op":"remove","namespace":"shop","name":"other"}"#.to_vec(),
            vec![],
            "shop/other is not enrolled",
        ),
    ] {
        let heard = ask(&socket, &request, &sent)?;
        assert!(
            heard.starts_with(r#"{"error":""#) && heard.contains(answer),
            "{answer}: {heard}"
        );
    }
    // Silent callers hold the others up for a bounded time, and nothing they sent stays open.
    let silent = (0..3)
        .map(|_| dial(&socket))
        .collect::<Result<Vec<_>, _>>()?;
    assert!(list()?.contains("\"web\""));
    drop(silent);
    drop(dial(&socket)?);
    assert!(list()?.contains("\"web\""));
    wait::until_true(
        "the callers' descriptors to be closed",
        wait::DEADLINE,
        || Ok(descriptors(pid)? <= before),
    )
}
