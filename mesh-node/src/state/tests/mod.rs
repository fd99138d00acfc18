//! The state module against a controller in the same process, over real TLS.

mod certificates;
mod delta;
mod discovery;
mod pki;
mod policy_table;
mod server;
mod svid;

use std::future::Future;
use std::time::Duration;

/// Far more than anything here takes; reached only by a test that fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The future's value, or a failed test that says what was waited for.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Asks again and again until there is a value.
async fn poll<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    soon(what, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
