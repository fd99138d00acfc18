//! The command line of discovery.

use std::time::Duration;

use clap::Args;

/// What a node is granted.
#[derive(Clone, Debug, Args)]
pub struct DiscoveryOptions {
    /// A node that does not acknowledge a response for this long is dropped.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = patience)]
    pub node_patience: Duration,
}

fn patience(text: &str) -> Result<Duration, String> {
    let patience = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if patience < Duration::from_secs(1) {
        return Err("must be at least 1s".into());
    }
    Ok(patience)
}
