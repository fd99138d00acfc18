//! Errors as container runtimes read them.

use serde_json::json;
use thiserror::Error;

/// Why the plugin did not do what it was asked.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum CniError {
    /// The version of the configuration is not one that the plugin knows.
    #[error("cniVersion {0:?} is not supported; it must be one of {1}")]
    Version(String, String),
    /// The runtime's environment is incomplete.
    #[error("the environment variable {0} is missing or wrong")]
    Environment(&'static str),
    /// Standard input cannot be read, or is no JSON.
    #[error("the network configuration on standard input: {0}")]
    Input(String),
    /// The configuration does not fit.
    #[error("{0}")]
    Configuration(String),
    /// The pod is in the mesh and cannot be captured now.
    #[error("pod {0} is in the mesh and cannot be captured yet, so it does not start: {1}")]
    NotCaptured(String, String),
    /// Who is in the mesh cannot be read.
    #[error("who is in the mesh cannot be told: {0}")]
    Unknown(String),
    /// CHECK: the pod is not as it should be.
    #[error("pod {0} is in the mesh and not captured; delete it, or see the agent's log")]
    Gone(String),
}

impl CniError {
    /// The numbers of the specification; from 100 on they are the plugin's own.
    fn code(&self) -> u32 {
        match self {
            Self::Version(..) => 1,
            Self::Environment(_) => 4,
            Self::Input(_) => 6,
            Self::Configuration(_) => 7,
            Self::NotCaptured(..) => 11,
            Self::Unknown(_) => 100,
            Self::Gone(_) => 101,
        }
    }

    /// What the runtime reads.
    pub(super) fn to_json(&self, version: &str) -> String {
        json!({"cniVersion": version, "code": self.code(), "msg": self.to_string()}).to_string()
    }
}
