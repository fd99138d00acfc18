//! PING: a peer that stops answering is noticed even when no data flows.

use std::time::Duration;

use super::TunnelError;
use super::link::Link;

/// A tunnel on which nothing was heard for this long is probed.
const EVERY: Duration = Duration::from_secs(10);
/// Probes without an answer after which the peer is given up.
const PROBES: usize = 2;

/// Probes the peer whenever it is silent, until it does not answer. What it may do too often is counted
/// anew each time.
pub(super) async fn until_silent(link: &Link) -> TunnelError {
    let mut unanswered = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let mut state = link.state();
        state.http2.forgive();
        if state.take_heard() {
            unanswered = 0;
        } else if unanswered == PROBES {
            return TunnelError::Silent;
        } else {
            unanswered += 1;
            state.http2.ping(*b"are you?");
            state.ask_flush();
        }
    }
}
