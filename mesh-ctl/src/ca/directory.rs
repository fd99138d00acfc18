//! An authority in a directory. Each file is replaced at once, keys are 0600, and the files are written in
//! an order in which each moment in between is a usable state.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::material::{CERTIFICATE, KEY, NEXT, ROTATION, names};
use super::{CaError, Material, Place};

/// The files are small; they are read this often.
const POLL: Duration = Duration::from_secs(1);
/// Held by whoever makes an authority; says [`BEGUN`] until all of it is written.
const LOCK: &str = ".ca.lock";
const BEGUN: &[u8] = b"a new authority is being written\n";
/// The lock is tried so often,
const PATIENCE: usize = 100;
/// with this pause.
const PAUSE: Duration = Duration::from_millis(50);

/// The directory.
pub struct Directory {
    path: PathBuf,
    place: Place,
}

impl Directory {
    /// The directory at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        for name in [KEY.to_owned(), format!("{NEXT}{KEY}")] {
            warn_if_readable(&path.join(name));
        }
        Self {
            place: Place::Directory(path.clone()),
            path,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Every file, of one moment: a step of a rotation that passes meanwhile shows in its record.
    pub(super) fn read(&self) -> Result<Material, CaError> {
        loop {
            let before = self.file(ROTATION)?;
            let mut material = Material::default();
            for name in names() {
                if let Some(content) = self.file(&name)? {
                    material.insert(&name, content);
                }
            }
            if self.file(ROTATION)? == before {
                return Ok(material);
            }
        }
    }

    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, CaError> {
        match std::fs::read(self.path.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CaError::Read {
                file: self.place.file(name),
                source,
            }),
        }
    }

    /// Puts a new authority into the directory; false when another process was first.
    pub(super) async fn create(&self, material: &Material) -> Result<bool, CaError> {
        let fault = |name: &str| {
            let file = self.place.file(name);
            move |source: std::io::Error| CaError::Write { file, source }
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(fault(""))?;
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(LOCK))
            .map_err(fault(LOCK))?;
        lock_patiently(&lock).await.map_err(fault(LOCK))?;
        let begun = lock.metadata().map_err(fault(LOCK))?.len() > 0;
        let there = self.read()?;
        // What a creator left that died is no authority yet; any other file is somebody's.
        if is_complete(&there) || !(begun || there.is_empty()) {
            return Ok(false);
        }
        mark(&lock, BEGUN).map_err(fault(LOCK))?;
        self.write(&there, material)?;
        mark(&lock, b"").map_err(fault(LOCK))?;
        Ok(true)
    }

    /// Makes the directory what `to` is, knowing that it is what `from` is.
    pub(super) fn write(&self, from: &Material, to: &Material) -> Result<(), CaError> {
        for operation in operations(from, to) {
            self.perform(&operation)?;
        }
        Ok(())
    }

    /// As if the process had died while it made an authority, after so many operations.
    #[cfg(test)]
    pub(super) fn die_creating(&self, material: &Material, after: usize) {
        std::fs::create_dir_all(&self.path).unwrap();
        std::fs::write(self.path.join(LOCK), BEGUN).unwrap();
        self.write_until(&Material::default(), material, after)
            .unwrap();
    }

    /// As if the process had died after so many operations; true when that was all of them.
    #[cfg(test)]
    pub(super) fn write_until(
        &self,
        from: &Material,
        to: &Material,
        died_after: usize,
    ) -> Result<bool, CaError> {
        let operations = operations(from, to);
        for operation in operations.iter().take(died_after) {
            self.perform(operation)?;
        }
        Ok(died_after >= operations.len())
    }

    fn perform(&self, operation: &Operation<'_>) -> Result<(), CaError> {
        match operation {
            Operation::Put(name, content) => self.put(name, content),
            Operation::Remove(name) => self.remove(name),
        }
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<(), CaError> {
        let secret = name.ends_with(KEY);
        let draft = self.path.join(format!(".{name}.new"));
        let written = || -> std::io::Result<()> {
            // What a crash left; its mode may be another.
            match std::fs::remove_file(&draft) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(if secret { 0o600 } else { 0o644 })
                .open(&draft)?;
            file.write_all(content)?;
            file.sync_all()?;
            std::fs::rename(&draft, self.path.join(name))?;
            File::open(&self.path)?.sync_all()
        };
        written().map_err(|source| CaError::Write {
            file: self.place.file(name),
            source,
        })
    }

    fn remove(&self, name: &str) -> Result<(), CaError> {
        let removed = std::fs::remove_file(self.path.join(name))
            .and_then(|()| File::open(&self.path)?.sync_all());
        match removed {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(CaError::Write {
                file: self.place.file(name),
                source,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn changes(&self) -> Poll {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Poll {
            directory: Self {
                path: self.path.clone(),
                place: self.place.clone(),
            },
            ticks,
        }
    }
}

/// One change of a directory, whole or not at all.
enum Operation<'a> {
    Put(String, &'a [u8]),
    Remove(String),
}

/// What follows goes first, then what signs, then the record that says which of the two does; at last what
/// is of no use any more. So each moment in between is a usable state.
fn operations<'a>(from: &Material, to: &'a Material) -> Vec<Operation<'a>> {
    let put = |name: &String| {
        let content = to.get(name)?;
        (from.get(name) != Some(content)).then(|| Operation::Put(name.clone(), content))
    };
    let remove = |name: &String| {
        let gone = to.get(name).is_none() && from.get(name).is_some();
        gone.then(|| Operation::Remove(name.clone()))
    };
    let (next, others): (Vec<_>, Vec<_>) = names().partition(|name| name.starts_with(NEXT));
    let own: Vec<_> = others.into_iter().filter(|n| n != ROTATION).rev().collect();
    let record = ROTATION.to_owned();
    let mut all: Vec<_> = next.iter().chain(&own).filter_map(put).collect();
    all.extend(own.iter().filter_map(remove));
    all.extend(put(&record).or_else(|| remove(&record)));
    all.extend(next.iter().filter_map(remove));
    all
}

/// Reads again and again: files are replaced through links, on network mounts, and file by file, which
/// notifications tell late, not at all, or too often.
pub(super) struct Poll {
    directory: Directory,
    ticks: Interval,
}

impl Poll {
    pub(super) async fn next(&mut self) -> Result<Material, CaError> {
        self.ticks.tick().await;
        let material = self.directory.read()?;
        if material.is_empty() {
            return Err(CaError::Gone {
                place: self.directory.place.to_string(),
            });
        }
        Ok(material)
    }
}

/// Whether nothing is missing that its creator would write: the certificate comes last.
pub(super) fn is_complete(material: &Material) -> bool {
    material.get(CERTIFICATE).is_some()
}

/// A lock ends with its process, so that who died holds nobody up.
async fn lock_patiently(lock: &File) -> std::io::Result<()> {
    for _ in 0..PATIENCE {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Err(std::io::Error::other("another process holds it"))
}

fn mark(mut lock: &File, text: &[u8]) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.write_all(text)?;
    lock.sync_all()
}

fn warn_if_readable(key_file: &Path) {
    let mode = std::fs::metadata(key_file)
        .map(|m| m.permissions().mode())
        .unwrap_or_default();
    if mode & 0o077 != 0 {
        tracing::warn!(
            file = %key_file.display(), mode = format!("{:o}", mode & 0o777),
            "others than its owner may read the CA key; make it 0600"
        );
    }
}
