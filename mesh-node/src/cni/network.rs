//! The network configuration that the runtime gives to the plugin.

use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

use super::error::CniError;
use crate::enroll::{DEFAULT_RUN_DIR, DEFAULT_STATE_DIR};

/// Versions of the specification whose configurations are understood.
pub(super) const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What the plugin reads of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Network {
    #[serde(default)]
    pub(super) cni_version: String,
    /// What the plugins before this one made.
    pub(super) prev_result: Option<Value>,
    #[serde(default = "run_dir")]
    pub(super) run_dir: PathBuf,
    #[serde(default = "state_dir")]
    pub(super) state_dir: PathBuf,
}

fn run_dir() -> PathBuf {
    DEFAULT_RUN_DIR.into()
}

fn state_dir() -> PathBuf {
    DEFAULT_STATE_DIR.into()
}

impl Network {
    pub(super) fn parse(text: &str) -> Result<Self, CniError> {
        let network: Self =
            serde_json::from_str(text).map_err(|e| CniError::Input(e.to_string()))?;
        if !VERSIONS.contains(&&*network.cni_version) {
            return Err(CniError::Version(network.cni_version, VERSIONS.join(", ")));
        }
        Ok(network)
    }
}

/// The version that an answer to this configuration states.
pub(super) fn version_of(text: &str) -> String {
    let stated = serde_json::from_str::<Value>(text)
        .ok()
        .and_then(|network| network["cniVersion"].as_str().map(ToOwned::to_owned));
    stated.unwrap_or_else(|| VERSIONS[VERSIONS.len() - 1].to_owned())
}
