//! The caller's side of the enrolment API.

use anyhow::{Context, bail};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::SOCKET;
use super::api::{Reply, Request};
use crate::seqpacket;

/// The agent answers within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Asks the agent whose run folder is `run_dir`. `Add` and `Join` open the network namespace that they name.
///
/// # Errors
/// When there is no agent, the namespace cannot be opened, or the agent refuses.
pub fn call(run_dir: &Path, request: &Request) -> anyhow::Result<Reply> {
    let path = run_dir.join(SOCKET);
    let netns = match request {
        Request::Add { netns, .. } | Request::Join { netns, .. } => {
            Some(std::fs::File::open(netns).with_context(|| {
                format!(
                    "cannot open network namespace {}; check --netns",
                    netns.display()
                )
            })?)
        }
        _ => None,
    };
    let socket = seqpacket::connect(&path, ANSWER_WITHIN).with_context(|| {
        format!(
            "no agent answers on {}; is mesh-node running with this --run-dir?",
            path.display()
        )
    })?;
    let descriptors: Vec<_> = netns.iter().map(AsFd::as_fd).collect();
    seqpacket::send(&socket, &serde_json::to_vec(request)?, &descriptors)
        .context("cannot send the request to the agent")?;
    let mut answer = Vec::new();
    loop {
        let part = seqpacket::receive(&socket).context("the agent did not answer; see its log")?;
        if part.text.is_empty() {
            break;
        }
        answer.extend_from_slice(&part.text);
    }
    match serde_json::from_slice(&answer).context("the agent's answer is malformed")? {
        Reply::Error(why) => bail!(why),
        reply => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enroll::Enrolled;
    use crate::enroll::api::respond;
    use rustix::net::accept;

    #[test]
    fn a_reply_longer_than_a_message_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let listener = seqpacket::listen(&dir.path().join(SOCKET)).unwrap();
        let pods = (0..2000).map(|n| Enrolled {
            namespace: "shop".into(),
            name: format!("web-{n}"),
            netns: "/run/netns/web".into(),
            ready: false,
            identity: None,
        });
        let reply = Reply::Pods(pods.collect());
        let length = serde_json::to_vec(&reply).unwrap().len();
        assert!(length > 2 * seqpacket::MESSAGE, "only {length} bytes");
        let agent = std::thread::spawn(move || {
            let caller = accept(&listener).unwrap();
            seqpacket::receive(&caller).unwrap();
            respond(&caller, &reply)
        });
        let Reply::Pods(listed) = call(dir.path(), &Request::List).unwrap() else {
            panic!("not a list");
        };
        agent.join().unwrap().unwrap();
        assert_eq!(listed.len(), 2000);
        assert_eq!(listed[1999].name, "web-1999");
    }
}
