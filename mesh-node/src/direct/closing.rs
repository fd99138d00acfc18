//! What one end of a connection says when it closes, and how many bytes that makes.
//!
//! The kernel counts a SYN and a FIN as a byte each. Whether a FIN is among them follows from the state in which
//! the socket ended, in all cases but one; there the other end knows.

use mesh_common::abi::{DirectEnd, DirectEvent};

const SYN_SENT: u32 = 2;
const FIN_WAIT2: u32 = 5;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const CLOSING: u32 = 11;

/// The last word of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    end: DirectEnd,
    acked: u64,
    received: u64,
    state: u32,
    all_acked: bool,
}

impl Closing {
    pub(super) fn new(end: DirectEnd, event: &DirectEvent) -> Self {
        Self {
            end,
            acked: event.acked,
            received: event.received,
            state: event.state,
            all_acked: event.all_acked != 0,
        }
    }

    /// The end that says it.
    pub(super) fn end(&self) -> DirectEnd {
        self.end
    }

    /// Whether it ended before it was answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.state == SYN_SENT
    }

    /// Whether both directions ended with an end of stream, as far as this end knows.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, FIN_WAIT2 | LAST_ACK | CLOSING)
    }

    /// Bytes that arrived; none when it depends on whether the far side's FIN is among them.
    fn received(&self) -> Option<u64> {
        match self.state {
            FIN_WAIT2 => None,
            CLOSE_WAIT | LAST_ACK | CLOSING => Some(self.received.saturating_sub(1)),
            _ => Some(self.received),
        }
    }

    /// Bytes that are known to have arrived at the far side.
    fn sent(&self) -> u64 {
        let syn = u64::from(self.end == DirectEnd::Client);
        let fin = match self.state {
            FIN_WAIT2 => 1,
            LAST_ACK | CLOSING => u64::from(self.all_acked),
            _ => 0,
        };
        self.acked.saturating_sub(syn + fin)
    }
}

/// Bytes that went from one end to the other, by what the two have said so far.
pub(super) fn carried(from: Option<&Closing>, to: Option<&Closing>) -> u64 {
    let received = to.and_then(Closing::received);
    let sent = from.map(Closing::sent);
    // Without the other end's word: that a FIN is not among them is the more likely.
    let at_most = to.map(|to| to.received);
    received.or(sent).or(at_most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(end: DirectEnd, state: u32, acked: u64, received: u64) -> Closing {
        Closing {
            end,
            acked,
            received,
            state,
            all_acked: true,
        }
    }

    /// `(client to server, server to client)`
    fn both(client: Closing, server: Closing) -> (u64, u64) {
        let (client, server) = (Some(&client), Some(&server));
        (carried(client, server), carried(server, client))
    }

    #[test]
    fn the_client_ends_first() {
        // SYN, 100 bytes and FIN; 7 bytes and FIN.
        let server = closing(DirectEnd::Server, LAST_ACK, 8, 101);
        let shut_down = closing(DirectEnd::Client, FIN_WAIT2, 102, 8);
        assert_eq!(both(shut_down, server), (100, 7));
        // It closed at once, and was gone when the FIN came.
        let gone = closing(DirectEnd::Client, FIN_WAIT2, 102, 7);
        assert_eq!(both(gone, server), (100, 7));
        assert!(server.is_complete() && gone.is_complete());
    }

    #[test]
    fn the_server_ends_first() {
        let client = closing(DirectEnd::Client, LAST_ACK, 102, 8);
        let server = closing(DirectEnd::Server, FIN_WAIT2, 8, 101);
        assert_eq!(both(client, server), (100, 7));
    }

    #[test]
    fn both_end_at_once() {
        let client = closing(DirectEnd::Client, CLOSING, 102, 8);
        let server = closing(DirectEnd::Server, CLOSING, 8, 101);
        assert_eq!(both(client, server), (100, 7));
    }

    #[test]
    fn a_reset_leaves_what_arrived() {
        const ESTABLISHED: u32 = 1;
        // The server has 60 of the client's bytes, the client knows of 40.
        let client = closing(DirectEnd::Client, ESTABLISHED, 41, 7);
        let server = closing(DirectEnd::Server, ESTABLISHED, 7, 60);
        assert_eq!(both(client, server), (60, 7));
        assert!(!client.is_complete());
        // After the client's end of stream.
        let half = closing(DirectEnd::Server, CLOSE_WAIT, 7, 61);
        assert_eq!(both(client, half), (60, 7));
        // The last FIN was never acknowledged.
        let last = Closing {
            all_acked: false,
            ..closing(DirectEnd::Server, LAST_ACK, 7, 61)
        };
        assert_eq!(last.sent(), 7);
    }

    #[test]
    fn one_end_alone_says_what_it_can() {
        let client = closing(DirectEnd::Client, LAST_ACK, 102, 8);
        assert_eq!(carried(Some(&client), None), 100);
        assert_eq!(carried(None, Some(&client)), 7);
        let first = closing(DirectEnd::Client, FIN_WAIT2, 102, 7);
        assert_eq!(carried(None, Some(&first)), 7);
        assert_eq!(carried(None, None), 0);
        let refused = closing(DirectEnd::Client, SYN_SENT, 0, 0);
        assert!(refused.is_unanswered());
        assert_eq!(carried(Some(&refused), None), 0);
    }
}
