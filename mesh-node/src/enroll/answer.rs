//! Who is in the mesh on this node: the controller's last answer, kept on disk for the time without a
//! controller or without an agent.

use mesh_common::proto::weft::enrolment as wire;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::store::{StoreError, replace};

const FILE: &str = "enrolment.json";

/// What the controller says of this node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Namespaces whose pods are in the mesh unless they say otherwise.
    pub namespaces: BTreeSet<String>,
    /// The pods of this node, in the mesh or not.
    pub pods: Vec<KnownPod>,
}

/// One pod of this node.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct KnownPod {
    /// `metadata.uid`
    pub uid: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Whether it is in the mesh.
    pub enrolled: bool,
    /// Its addresses; none before it has a network.
    pub addresses: Vec<IpAddr>,
}

/// Whether a pod is in the mesh, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The controller named the pod.
    Known(bool),
    /// It did not yet: what its namespace says.
    ByNamespace(bool),
}

impl Verdict {
    /// Whether the pod is in, as far as is known.
    #[must_use]
    pub fn is_in(self) -> bool {
        matches!(self, Self::Known(true) | Self::ByNamespace(true))
    }
}

impl TryFrom<wire::Pod> for KnownPod {
    type Error = String;

    fn try_from(pod: wire::Pod) -> Result<Self, String> {
        let ip = |bytes: &Vec<u8>| match bytes.len() {
            4 => <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from).ok(),
            _ => <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from).ok(),
        };
        let addresses = pod.addresses.iter().map(|bytes| {
            ip(bytes).ok_or_else(|| {
                format!(
                    "pod {}/{}: an address has {} bytes",
                    pod.namespace,
                    pod.name,
                    bytes.len()
                )
            })
        });
        Ok(Self {
            addresses: addresses.collect::<Result<_, _>>()?,
            uid: pod.uid,
            namespace: pod.namespace,
            name: pod.name,
            enrolled: pod.enrolled,
        })
    }
}

impl Answer {
    /// Whether a pod of this node is in the mesh. A pod of the same name and another uid is another pod.
    #[must_use]
    pub fn verdict(&self, namespace: &str, name: &str, uid: &str) -> Verdict {
        let is = |pod: &&KnownPod| {
            pod.namespace == namespace && pod.name == name && (uid.is_empty() || pod.uid == uid)
        };
        match self.pods.iter().find(is) {
            Some(pod) => Verdict::Known(pod.enrolled),
            None => Verdict::ByNamespace(self.namespaces.contains(namespace)),
        }
    }

    /// The answer kept in `dir`; none if there never was one.
    ///
    /// # Errors
    /// [`StoreError`], naming the file.
    pub fn load(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = file(dir);
        match fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(answer) => Ok(Some(answer)),
                Err(e) => Err(StoreError::Damaged(path, e)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::Io(path, e)),
        }
    }

    /// Keeps the answer in `dir`; a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// [`StoreError`], naming the file.
    pub fn save(&self, dir: &Path) -> Result<(), StoreError> {
        replace(&file(dir), self)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let pod = |name: &str, enrolled| KnownPod {
            uid: format!("uid-of-{name}"),
            namespace: "shop".into(),
            name: name.into(),
            enrolled,
            addresses: vec!["10.0.0.1".parse().unwrap()],
        };
        Answer {
            namespaces: ["shop".to_owned()].into(),
            pods: vec![pod("in", true), pod("out", false)],
        }
    }

    #[test]
    fn a_pod_that_is_known_decides_and_else_its_namespace() {
        let answer = answer();
        let verdict = |namespace, name, uid| answer.verdict(namespace, name, uid);
        assert_eq!(verdict("shop", "in", "uid-of-in"), Verdict::Known(true));
        assert_eq!(verdict("shop", "out", "uid-of-out"), Verdict::Known(false));
        assert_eq!(verdict("shop", "out", ""), Verdict::Known(false));
        let another = verdict("shop", "out", "its-successor");
        assert_eq!(another, Verdict::ByNamespace(true));
        assert_eq!(verdict("bank", "in", ""), Verdict::ByNamespace(false));
    }

    #[test]
    fn an_answer_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Answer::load(dir.path()).unwrap(), None);
        answer().save(dir.path()).unwrap();
        assert_eq!(Answer::load(dir.path()).unwrap(), Some(answer()));
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = Answer::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("enrolment.json"), "{error}");
    }

    #[test]
    fn an_address_of_another_length_is_refused() {
        let pod = wire::Pod {
            addresses: vec![vec![1, 2, 3]],
            name: "web".into(),
            ..wire::Pod::default()
        };
        let error = KnownPod::try_from(pod).unwrap_err();
        assert!(
            error.contains("web") && error.contains("3 bytes"),
            "{error}"
        );
    }
}
