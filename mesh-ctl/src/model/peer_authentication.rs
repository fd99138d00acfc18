//! PeerAuthentication, parsed and validated.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::spec::{PeerSpec, PolicyDocument};
use super::{FieldError, Labels, Meta};

/// Whether inbound traffic must be mutual TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// As the next wider policy says.
    #[default]
    Unset,
    /// Plaintext is accepted; a tunnel is too, so this is as PERMISSIVE.
    Disable,
    /// Both are accepted.
    Permissive,
    /// Plaintext is refused.
    Strict,
}

/// A PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// Name and age.
    pub meta: Meta,
    /// The workloads it is for; `None` means all of its namespace, or of the mesh.
    pub selector: Option<Labels>,
    /// For every port that has no mode of its own.
    pub mode: Mode,
    /// Workload port to mode.
    pub ports: BTreeMap<u16, Mode>,
}

impl PeerAuthentication {
    pub(crate) fn parse(mut document: PolicyDocument<PeerSpec>) -> Result<Self, FieldError> {
        let meta = Meta::namespaced(&mut document.metadata)?;
        let spec = document.spec.unwrap_or_default();
        let selector = spec
            .selector
            .map(|s| s.match_labels)
            .filter(|labels| !labels.is_empty());
        let ports = spec.port_level_mtls.unwrap_or_default();
        if selector.is_none() && !ports.is_empty() {
            return Err(FieldError::new(
                "spec.portLevelMtls",
                "needs a selector; add spec.selector.matchLabels or remove the ports",
            ));
        }
        Ok(Self {
            meta,
            selector,
            mode: spec.mtls.map(|mtls| mtls.mode).unwrap_or_default(),
            ports: ports
                .into_iter()
                .map(|(port, mtls)| (port.0, mtls.mode))
                .collect(),
        })
    }
}
