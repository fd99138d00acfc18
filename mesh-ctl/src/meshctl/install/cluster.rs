//! The cluster that is worked on.

use std::collections::BTreeSet;

use kube::api::{Api, DynamicObject};
use kube::{Client, Error};

use super::error::InstallError;
use super::object;
use crate::meshctl::reach::{self, Reach, ReachError};

/// An API server, and the namespace that Weft is in.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// Its URL, for errors.
    server: String,
}

impl Cluster {
    /// The one that the options of [`Reach`] choose. Nothing is asked yet.
    pub(super) async fn connect(reach: &Reach) -> Result<Self, ReachError> {
        let reach::Cluster {
            client,
            server,
            mesh_namespace,
        } = reach.api_server().await?;
        Ok(Self {
            client,
            namespace: mesh_namespace,
            server,
        })
    }

    /// The objects of its kind, where it is.
    pub(super) fn api(&self, object: &DynamicObject) -> Api<DynamicObject> {
        object::api(&self.client, object)
    }

    /// Why `doing` something failed.
    pub(super) fn fault(&self, doing: impl Into<String>, error: Error) -> InstallError {
        InstallError::of_api(&self.server, doing.into(), error)
    }

    /// What the server is and serves.
    pub(super) async fn discover(&self) -> Result<Server, InstallError> {
        let fault = |e| self.fault("ask for the server's version", e);
        let version = self.client.apiserver_version().await.map_err(fault)?;
        let fault = |e| self.fault("ask for the kinds that are served", e);
        let groups = self.client.list_api_groups().await.map_err(fault)?;
        let versions = groups.groups.into_iter().flat_map(|group| group.versions);
        let served = versions.map(|version| version.group_version);
        Ok(Server {
            minor: minor(&version.major, &version.minor),
            served: served.chain(["v1".to_owned()]).collect(),
        })
    }
}

/// What an API server is and serves.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Of Kubernetes 1.x.
    pub(super) minor: Option<u32>,
    served: BTreeSet<String>,
}

impl Server {
    /// Whether it serves that version of that group, `policy/v1`.
    pub(super) fn serves(&self, api_version: &str) -> bool {
        self.served.contains(api_version)
    }
}

/// Some write `27+`.
fn minor(major: &str, minor: &str) -> Option<u32> {
    let end = minor
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(minor.len());
    (major == "1").then(|| minor[..end].parse().ok()).flatten()
}

#[cfg(test)]
impl Server {
    /// One that serves these.
    pub(super) fn of(minor: u32, served: &[&str]) -> Self {
        let served = served.iter().map(|version| (*version).to_owned()).collect();
        Self {
            minor: Some(minor),
            served,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for (major, written, read) in [
            ("1", "20", Some(20)),
            ("1", "27+", Some(27)),
            ("1", "", None),
            ("1", "x", None),
            ("2", "0", None),
        ] {
            assert_eq!(minor(major, written), read, "{major} {written}");
        }
    }
}
