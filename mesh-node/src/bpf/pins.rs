//! Where maps, programs and links are pinned: `<bpffs>/v<ABI>/{maps,progs,links,pods}`.

use aya::maps::{Map, MapData, MapError};
use mesh_common::abi::ABI_VERSION;
use rustix::fs::statfs;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::DatapathError;
use crate::sys::bpf::Link;

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The directory of pins of this ABI version.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Makes the directories.
    pub(super) fn create(bpffs: &Path) -> Result<Self, DatapathError> {
        require_bpffs(bpffs)?;
        let root = bpffs.join(format!("v{ABI_VERSION}"));
        for directory in ["maps", "progs", "links", "pods"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(|source| DatapathError::Pin(path, source))?;
        }
        Ok(Self { root })
    }

    /// Removes the pins of all other versions.
    pub(super) fn retire_others(&self) -> Result<(), DatapathError> {
        let bpffs = self.root.parent().unwrap_or(&self.root);
        for version in versions(bpffs)? {
            if version != self.root {
                remove_version(&version)?;
                tracing::info!("removed the pins of another version: {}", version.display());
            }
        }
        Ok(())
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(name)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.root.join("progs").join(name)
    }

    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.root.join("links").join(name)
    }

    /// The `sk_lookup` link of one pod.
    pub(super) fn pod(&self, cookie: u64) -> PathBuf {
        self.root.join("pods").join(cookie.to_string())
    }

    /// Opens a pinned map.
    pub(super) fn data(&self, name: &'static str) -> Result<MapData, DatapathError> {
        MapData::from_pin(self.map(name)).map_err(|source| DatapathError::map(name, source))
    }

    /// Opens a pinned map as the type that it has.
    pub(super) fn typed<T>(
        &self,
        name: &'static str,
        convert: impl FnOnce(Map) -> Result<T, MapError>,
    ) -> Result<T, DatapathError> {
        let map = Map::from_map_data(self.data(name)?);
        map.and_then(convert)
            .map_err(|source| DatapathError::map(name, source))
    }

    /// Cookies of the pods that have a link.
    pub(super) fn pods(&self) -> Result<Vec<u64>, DatapathError> {
        let path = self.root.join("pods");
        let failed = |source| DatapathError::Pin(path.clone(), source);
        let mut cookies = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            cookies.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(cookies)
    }

    /// Cookies of the pods whose network namespace is gone.
    pub(super) fn dead_pods(&self) -> Result<Vec<u64>, DatapathError> {
        let mut dead = Vec::new();
        for cookie in self.pods()? {
            let path = self.pod(cookie);
            let target = Link::from_pin(&path).and_then(|link| link.target());
            if target
                .map_err(|source| DatapathError::Pin(path, source))?
                .is_none()
            {
                dead.push(cookie);
            }
        }
        Ok(dead)
    }
}

/// Removes a pin; that there is none is no error.
pub(super) fn remove(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::Pin(path.to_owned(), source))
        }
        _ => Ok(()),
    }
}

/// Detaches a pinned link and removes its pin; that there is none is no error. No packet meets the
/// program when this returns.
pub(super) fn remove_link(path: &Path) -> Result<(), DatapathError> {
    if path.exists() {
        Link::from_pin(path)
            .and_then(|link| link.detach())
            .map_err(|source| DatapathError::Pin(path.to_owned(), source))?;
    }
    remove(path)
}

/// Detaches everything that any version of the agent pinned in `bpffs`, and removes the directory.
/// That there is nothing is no error.
///
/// # Errors
/// A pin cannot be removed, or the directory is not in a bpffs.
pub fn uninstall(bpffs: &Path) -> Result<(), DatapathError> {
    require_bpffs(bpffs)?;
    let failed = |source| DatapathError::Pin(bpffs.to_owned(), source);
    if !bpffs.exists() {
        return Ok(());
    }
    for version in versions(bpffs)? {
        remove_version(&version)?;
    }
    match fs::remove_dir(bpffs) {
        // A mount point, or a directory with somebody else's pins, stays.
        Err(e)
            if !matches!(
                e.kind(),
                io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(failed(e))
        }
        _ => Ok(()),
    }
}

/// The directories of all versions.
fn versions(bpffs: &Path) -> Result<Vec<PathBuf>, DatapathError> {
    let failed = |source| DatapathError::Pin(bpffs.to_owned(), source);
    let mut found = Vec::new();
    for entry in fs::read_dir(bpffs).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_prefix('v'));
        if version.is_some_and(|version| version.parse::<u32>().is_ok()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove_version(version: &Path) -> Result<(), DatapathError> {
    // Pods first: while one is captured inbound, the rest of the data path stays.
    for directory in ["pods", "links"] {
        remove_links(&version.join(directory))?;
    }
    for directory in ["pods", "links", "progs", "maps"] {
        remove_directory(&version.join(directory))?;
    }
    remove_directory(version)
}

fn remove_links(directory: &Path) -> Result<(), DatapathError> {
    let failed = |source| DatapathError::Pin(directory.to_owned(), source);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        remove_link(&entry.map_err(failed)?.path())?;
    }
    Ok(())
}

fn remove_directory(path: &Path) -> Result<(), DatapathError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::Pin(path.to_owned(), source))
        }
        _ => Ok(()),
    }
}

/// Checks that a path, or the part of it that exists, is in a bpffs.
fn require_bpffs(path: &Path) -> Result<(), DatapathError> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    let found = statfs(existing)
        .map_err(|source| DatapathError::Pin(existing.to_owned(), source.into()))?;
    if found.f_type == BPF_FS_MAGIC {
        Ok(())
    } else {
        Err(DatapathError::NotBpffs(path.to_owned()))
    }
}
