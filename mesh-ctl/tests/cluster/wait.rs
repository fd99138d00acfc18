//! Waiting for what must come.

use std::time::Duration;

/// Nothing in these tests takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Asks again until the answer is yes.
pub(crate) async fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !ask() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
