//! The enrolled pods on disk, so that a restarted agent takes them up again by itself.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

const FILE: &str = "pods.json";

/// One enrolled pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct StoredPod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// `metadata.uid`; empty when it is not known.
    #[serde(default)]
    pub uid: String,
    /// Its sandbox, as the container runtime names it; empty when it is not known.
    #[serde(default)]
    pub container: String,
    /// Where its network namespace can be opened.
    pub netns: PathBuf,
    /// Cookie of that network namespace: a path that leads to another one is not this pod.
    pub cookie: u64,
}

/// The list cannot be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("{0}: {1}; check that the run folder exists and is writable")]
    Io(PathBuf, io::Error),
    /// The content is not a list of pods.
    #[error("{0} is damaged: {1}; remove it and enrol the pods again")]
    Damaged(PathBuf, serde_json::Error),
}

/// The list of enrolled pods in the run folder.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The list in `run_dir`.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join(FILE),
        }
    }

    /// The pods enrolled when the list was last written; none if it never was.
    ///
    /// # Errors
    /// [`StoreError`], naming the file.
    pub fn load(&self) -> Result<Vec<StoredPod>, StoreError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StoreError::Io(self.path.clone(), e)),
        };
        serde_json::from_slice(&text).map_err(|e| StoreError::Damaged(self.path.clone(), e))
    }

    /// Replaces the list; a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// [`StoreError`], naming the file.
    pub fn save(&self, pods: &[StoredPod]) -> Result<(), StoreError> {
        replace(&self.path, &pods)
    }
}

/// Replaces a file in one step.
pub(super) fn replace(path: &Path, content: &impl Serialize) -> Result<(), StoreError> {
    let failed = |e| StoreError::Io(path.to_owned(), e);
    let text =
        serde_json::to_vec_pretty(content).map_err(|e| StoreError::Damaged(path.to_owned(), e))?;
    let next = path.with_extension("json.new");
    let mut file = fs::File::create(&next).map_err(failed)?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&next, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> StoredPod {
        StoredPod {
            namespace: "shop".into(),
            name: name.into(),
            uid: "u".into(),
            container: String::new(),
            netns: format!("/run/netns/{name}").into(),
            cookie: 7,
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert_eq!(store.load().unwrap(), []);
        store.save(&[pod("a"), pod("b")]).unwrap();
        store.save(&[pod("b")]).unwrap();
        assert_eq!(Store::new(dir.path()).load().unwrap(), [pod("b")]);
    }

    #[test]
    fn a_damaged_list_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "[{\"namespace\": 1}]").unwrap();
        let error = Store::new(dir.path()).load().unwrap_err().to_string();
        assert!(
            error.contains("pods.json") && error.contains("remove it"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "[{\"namespace\": 1}]");
    }
}
