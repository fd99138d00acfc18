//! One stream (RFC 9113, section 5.1): what each side may still send.

use crate::flow::{ReceiveWindow, SendWindow};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    /// Its HEADERS have not been sent yet.
    Idle,
    Open,
    Closed,
}

#[derive(Debug)]
pub(super) struct Stream {
    here: Half,
    there: Half,
    pub(super) send_window: SendWindow,
    pub(super) receive_window: ReceiveWindow,
}

impl Stream {
    /// A stream whose request this end has sent.
    pub(super) fn opened_here(send: u32, receive_window: ReceiveWindow) -> Self {
        Self {
            here: Half::Open,
            there: Half::Idle,
            send_window: SendWindow::new(send),
            receive_window,
        }
    }

    /// A stream whose request the peer has sent.
    pub(super) fn opened_there(send: u32, receive_window: ReceiveWindow) -> Self {
        Self {
            here: Half::Idle,
            there: Half::Open,
            send_window: SendWindow::new(send),
            receive_window,
        }
    }

    pub(super) fn may_answer(&self) -> bool {
        self.here == Half::Idle
    }

    pub(super) fn answered(&mut self) {
        self.here = Half::Open;
    }

    pub(super) fn may_send(&self) -> bool {
        self.here == Half::Open
    }

    pub(super) fn send_ended(&mut self) {
        self.here = Half::Closed;
    }

    /// Whether the peer's head is still to come.
    pub(super) fn awaits_head(&self) -> bool {
        self.there == Half::Idle
    }

    pub(super) fn head_received(&mut self) {
        self.there = Half::Open;
    }

    pub(super) fn receiving(&self) -> bool {
        self.there != Half::Closed
    }

    pub(super) fn receive_ended(&mut self) {
        self.there = Half::Closed;
    }

    pub(super) fn is_over(&self) -> bool {
        self.here == Half::Closed && self.there == Half::Closed
    }
}
