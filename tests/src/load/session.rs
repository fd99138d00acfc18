//! What the server does on one connection: read the request, then answer or echo.

use super::ANSWER;
use super::header::{LENGTH, Request};
use super::message::{Message, Progress};
use super::poll::Ready;
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

/// One non-blocking connection and how far it is.
pub(super) struct Session {
    /// The connection.
    pub(super) stream: TcpStream,
    state: State,
}

enum State {
    /// The request is not complete yet.
    Asking(Message),
    /// It was answered; the client closes it.
    Held,
    /// A message comes in, or is on its way back.
    Echoing { message: Message, back: bool },
}

/// What is to become of a connection.
pub(super) enum Next {
    /// It goes on when the socket is ready for this.
    Wait(Ready),
    /// It is over.
    Close,
    /// It needs a thread.
    Transfer(Request),
}

impl Session {
    /// A connection that has asked for nothing yet.
    pub(super) fn new(stream: TcpStream) -> Self {
        let state = State::Asking(Message::new(LENGTH));
        Self { stream, state }
    }

    /// Does what can be done now; doing nothing is fine.
    pub(super) fn step(&mut self) -> Result<Next> {
        match &mut self.state {
            State::Asking(header) => match header.read(&self.stream).context("the request")? {
                Progress::Done => {
                    let mut bytes = [0; LENGTH];
                    bytes.copy_from_slice(&header.bytes);
                    self.begin(Request::decode(&bytes)?)
                }
                Progress::Blocked => Ok(Next::Wait(Ready::IN)),
                Progress::Ended => bail!("it ended before the request was complete"),
            },
            State::Held => self.hold(),
            State::Echoing { message, back } => echo(&self.stream, message, back),
        }
    }

    fn begin(&mut self, request: Request) -> Result<Next> {
        match request {
            Request::Hold => {
                self.answer()?;
                self.state = State::Held;
                Ok(Next::Wait(Ready::IN))
            }
            Request::Close => {
                self.answer()?;
                Ok(Next::Close)
            }
            Request::Echo { size } => {
                self.stream.set_nodelay(true)?;
                self.state = State::Echoing {
                    message: Message::new(size as usize),
                    back: false,
                };
                Ok(Next::Wait(Ready::IN))
            }
            Request::Receive { .. } | Request::Send | Request::Measure { .. } => {
                Ok(Next::Transfer(request))
            }
        }
    }

    fn answer(&self) -> Result<()> {
        let mut stream = &self.stream;
        stream.write_all(&[ANSWER]).context("cannot answer")
    }

    fn hold(&self) -> Result<Next> {
        let mut stream = &self.stream;
        match stream.read(&mut [0; 64]) {
            Ok(0) => Ok(Next::Close),
            Ok(_) => bail!("the client spoke on a connection that it asked to hold"),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(Next::Wait(Ready::IN))
            }
            Err(error) => Err(error).context("while it was held"),
        }
    }
}

/// Takes a whole message and sends it back.
fn echo(stream: &TcpStream, message: &mut Message, back: &mut bool) -> Result<Next> {
    if !*back {
        match message.read(stream).context("cannot receive")? {
            Progress::Blocked => return Ok(Next::Wait(Ready::IN)),
            Progress::Ended => {
                ensure!(message.is_at_start(), "it ended in the middle of a message");
                return Ok(Next::Close);
            }
            Progress::Done => message.rewind(),
        }
        *back = true;
    }
    if message.write(stream).context("cannot send")? != Progress::Done {
        return Ok(Next::Wait(Ready::OUT));
    }
    message.rewind();
    *back = false;
    Ok(Next::Wait(Ready::IN))
}
