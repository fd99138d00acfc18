//! PING: a peer that stops answering is noticed even when no data flows.

use h2::{Ping, PingPong};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Pings until the peer fails to answer in time or the tunnel ends; the text says which.
pub(super) async fn until_silent(mut pings: PingPong) -> &'static str {
    loop {
        tokio::time::sleep(EVERY).await;
        match tokio::time::timeout(ANSWER_WITHIN, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return "the tunnel is closed",
            Err(_) => return "the peer did not answer a PING in 20 s",
        }
    }
}
