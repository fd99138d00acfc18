//! The keeper's side.

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::{Answer, Request, WITHIN};
use crate::{limits, seqpacket};

#[derive(Default)]
struct Held {
    sockets: BTreeMap<u64, Vec<OwnedFd>>,
    superseded: bool,
}

/// Holds sockets for the agent, which asks at `socket`, until the process is ended.
///
/// # Errors
/// The socket cannot be bound.
pub fn run(socket: &Path) -> io::Result<()> {
    limits::raise_descriptors();
    let listener = seqpacket::listen(socket)?;
    let mut held = Held::default();
    loop {
        match accept_with(&listener, SocketFlags::CLOEXEC) {
            Ok(caller) => {
                // A caller that leaves early has lost only its answer.
                let _ = serve(&caller, &mut held);
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(e) => {
                eprintln!("mesh-node keeper: cannot accept a caller: {e}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn serve(caller: &OwnedFd, held: &mut Held) -> io::Result<()> {
    seqpacket::limit(caller, WITHIN)?;
    let received = seqpacket::receive(caller)?;
    let answer = match serde_json::from_slice(&received.text) {
        Ok(Request::Keep { cookie }) if received.descriptors.is_empty() => {
            Answer::Error(format!("no sockets came for {cookie}"))
        }
        Ok(Request::Keep { cookie }) => {
            held.sockets.insert(cookie, received.descriptors);
            held.done()
        }
        Ok(Request::Drop { cookie }) => {
            held.sockets.remove(&cookie);
            held.done()
        }
        Ok(Request::List) => Answer::Cookies(held.sockets.keys().copied().collect()),
        Ok(Request::Take) => {
            for (&cookie, sockets) in &held.sockets {
                let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
                let text = serde_json::to_vec(&Answer::Sockets { cookie })?;
                seqpacket::send(caller, &text, &sockets)?;
            }
            held.done()
        }
        Ok(Request::Supersede) => {
            held.sockets.clear();
            held.superseded = true;
            held.done()
        }
        Err(e) => Answer::Error(format!("the request is malformed: {e}")),
    };
    seqpacket::send(caller, &serde_json::to_vec(&answer)?, &[])
}

impl Held {
    fn done(&self) -> Answer {
        Answer::Done {
            superseded: self.superseded,
        }
    }
}
