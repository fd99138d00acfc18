//! Connections on their way: opened without waiting, asked, answered.

use super::header::Request;
use super::message::{Message, Progress};
use super::poll::{Poll, Ready};
use super::{ANSWER, PATIENCE, stream};
use anyhow::{Context as _, Result, bail, ensure};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Several connections to one server that all ask the same.
pub(super) struct Dialer {
    to: SocketAddr,
    request: Request,
    poll: Poll,
    dials: Vec<Option<Dial>>,
    free: Vec<usize>,
    check: Instant,
}

struct Dial {
    stream: TcpStream,
    begun: Instant,
    request: Message,
    answer: Message,
}

impl Dialer {
    /// None on their way yet. The request is one that is answered with one byte.
    pub(super) fn new(to: SocketAddr, request: Request) -> Result<Self> {
        Ok(Self {
            to,
            request,
            poll: Poll::new()?,
            dials: Vec::new(),
            free: Vec::new(),
            check: Instant::now(),
        })
    }

    /// How many are on their way.
    pub(super) fn pending(&self) -> usize {
        self.dials.len() - self.free.len()
    }

    /// Begins one.
    pub(super) fn dial(&mut self) -> Result<()> {
        let stream = stream::begin(self.to)?;
        let index = self.free.pop().unwrap_or(self.dials.len());
        // Edge-triggered, for both directions: one system call for all of the connection's life.
        let ready = Ready::IN | Ready::OUT | Ready::RDHUP | Ready::ET;
        self.poll.add(&stream, index, ready)?;
        let dial = Some(Dial {
            stream,
            begun: Instant::now(),
            request: Message::of(&self.request.encode()),
            answer: Message::new(1),
        });
        match self.dials.get_mut(index) {
            Some(slot) => *slot = dial,
            None => self.dials.push(dial),
        }
        Ok(())
    }

    /// Waits for events, and hands over each connection that has got what it asked for.
    ///
    /// # Errors
    /// When a connection fails or has been on its way for too long.
    pub(super) fn wait(
        &mut self,
        until: Instant,
        mut finished: impl FnMut(TcpStream) -> Result<()>,
    ) -> Result<()> {
        let now = Instant::now();
        if now >= self.check {
            self.check = now + Duration::from_secs(1);
            self.check_lateness(now)?;
        }
        for event in 0..self.poll.wait(Some(until.min(self.check)))? {
            let (index, ready) = self.poll.event(event);
            let Some(dial) = &mut self.dials[index] else {
                continue;
            };
            let closes = self.request == Request::Close;
            if dial.step(ready, closes)?
                && let Some(dial) = self.dials[index].take()
            {
                self.free.push(index);
                self.poll.remove(&dial.stream)?;
                finished(dial.stream)?;
            }
        }
        Ok(())
    }

    fn check_lateness(&self, now: Instant) -> Result<()> {
        let late = |dial: &&Dial| now.duration_since(dial.begun) > PATIENCE;
        let late = self.dials.iter().flatten().filter(late).count();
        let patience = PATIENCE.as_secs();
        ensure!(
            late == 0,
            "{late} connections were not done after {patience} s"
        );
        Ok(())
    }
}

impl Dial {
    /// Goes on; true when the connection has got what it asked for.
    fn step(&mut self, ready: Ready, closes: bool) -> Result<bool> {
        if ready.intersects(Ready::ERR) {
            stream::pending_error(&self.stream)?;
        }
        let sent = self
            .request
            .write(&self.stream)
            .context("cannot send the request")?;
        if sent != Progress::Done {
            return Ok(false);
        }
        match self.answer.read(&self.stream).context("got no answer")? {
            Progress::Blocked => return Ok(false),
            Progress::Ended => bail!("the server closed a connection without an answer"),
            Progress::Done => {}
        }
        ensure!(
            self.answer.bytes == [ANSWER],
            "the answer is {:?}: is it lab-load that listens there?",
            self.answer.bytes
        );
        // The end of the stream is told with the event, or comes with an event of its own.
        Ok(!closes || ready.intersects(Ready::RDHUP))
    }
}
