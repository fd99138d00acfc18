//! The agent's side.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Answer, Request, WITHIN};
use crate::seqpacket;

/// What a keeper held.
#[derive(Debug, Default)]
pub struct Taken {
    /// Sockets by cookie of their network namespace, in the order in which they were given.
    pub sockets: HashMap<u64, Vec<OwnedFd>>,
    /// Another agent has taken over from the one that this keeper served.
    pub superseded: bool,
}

/// How to reach the keeper.
#[derive(Clone, Debug)]
pub struct Keeper {
    path: PathBuf,
}

impl Keeper {
    /// The keeper that listens at `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Has these sockets held.
    ///
    /// # Errors
    /// There is no keeper, or it refuses.
    pub fn keep(&self, cookie: u64, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.ask(&Request::Keep { cookie }, sockets).map(drop)
    }

    /// Has the sockets of a network namespace closed.
    ///
    /// # Errors
    /// There is no keeper.
    pub fn release(&self, cookie: u64) -> io::Result<()> {
        self.ask(&Request::Drop { cookie }, &[]).map(drop)
    }

    /// The network namespaces of which sockets are held.
    ///
    /// # Errors
    /// There is no keeper.
    pub fn cookies(&self) -> io::Result<Vec<u64>> {
        match self.ask(&Request::List, &[])? {
            (_, Answer::Cookies(cookies)) => Ok(cookies),
            (_, other) => Err(io::Error::other(format!("unexpected answer {other:?}"))),
        }
    }

    /// Copies of everything that is held.
    ///
    /// # Errors
    /// There is no keeper.
    pub fn take(&self) -> io::Result<Taken> {
        let (sockets, answer) = self.ask(&Request::Take, &[])?;
        Ok(Taken {
            sockets,
            superseded: matches!(answer, Answer::Done { superseded: true }),
        })
    }

    /// Has everything closed, and remembered that another agent has taken over.
    ///
    /// # Errors
    /// There is no keeper.
    pub fn supersede(&self) -> io::Result<()> {
        self.ask(&Request::Supersede, &[]).map(drop)
    }

    fn ask(
        &self,
        request: &Request,
        sockets: &[BorrowedFd<'_>],
    ) -> io::Result<(HashMap<u64, Vec<OwnedFd>>, Answer)> {
        let named = |e: io::Error| {
            io::Error::new(e.kind(), format!("keeper at {}: {e}", self.path.display()))
        };
        let exchange = || {
            let keeper = seqpacket::connect(&self.path, WITHIN)?;
            seqpacket::send(&keeper, &serde_json::to_vec(request)?, sockets)?;
            let mut taken = HashMap::new();
            loop {
                let received = seqpacket::receive(&keeper)?;
                match serde_json::from_slice(&received.text)? {
                    Answer::Sockets { cookie } => {
                        taken.insert(cookie, received.descriptors);
                    }
                    Answer::Error(why) => return Err(io::Error::other(why)),
                    answer => return Ok((taken, answer)),
                }
            }
        };
        exchange().map_err(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::{Duration, Instant};

    #[test]
    fn what_is_kept_outlives_whoever_gave_it_and_is_handed_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keeper.sock");
        let served = path.clone();
        // It runs until the process ends.
        std::thread::spawn(move || crate::keeper::run(&served));
        let began = Instant::now();
        while !path.exists() {
            assert!(began.elapsed() < Duration::from_secs(10), "no keeper");
            std::thread::sleep(Duration::from_millis(5));
        }
        let keeper = Keeper::at(&path);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        keeper.keep(7, &[listener.as_fd()]).unwrap();
        drop(listener);
        let waiting = TcpStream::connect(address).unwrap();
        assert_eq!(keeper.cookies().unwrap(), [7]);

        let mut taken = keeper.take().unwrap();
        assert!(!taken.superseded);
        let again: TcpListener = taken.sockets.remove(&7).unwrap().remove(0).into();
        let (_, from) = again.accept().unwrap();
        assert_eq!(from, waiting.local_addr().unwrap());
        drop(again);
        keeper.release(7).unwrap();
        assert!(TcpStream::connect(address).is_err());
        assert!(keeper.keep(8, &[]).is_err());
        keeper.supersede().unwrap();
        assert!(keeper.take().unwrap().superseded);
    }
}
