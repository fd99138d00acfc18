//! The keys that tokens are verified with: a JWKS file, read again when it changes. A bad file at
//! run time leaves the keys that were read before in force.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use jsonwebtoken::jwk::JwkSet;

/// The key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It cannot be read.
    #[error("{file}: cannot read the token keys: {source}; check --jwks-file")]
    Read {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not a JWKS document.
    #[error("{file}: is not a JWKS document: {source}; it must be {{\"keys\": [...]}}")]
    Parse {
        /// Which file.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It has no key.
    #[error("{file}: has no key, so that no token could be verified; add one")]
    Empty {
        /// Which file.
        file: PathBuf,
    },
}

type Stamp = (SystemTime, u64);

struct Loaded {
    keys: Arc<JwkSet>,
    stamp: Option<Stamp>,
}

/// The current keys.
pub struct Jwks {
    file: PathBuf,
    loaded: Mutex<Loaded>,
}

impl Jwks {
    /// Reads the file for the first time.
    pub fn open(file: PathBuf) -> Result<Self, JwksError> {
        let stamp = stamp(&file);
        let keys = Arc::new(load(&file)?);
        Ok(Self {
            file,
            loaded: Mutex::new(Loaded { keys, stamp }),
        })
    }

    /// The keys of the file as it is now, or as it last was good.
    pub fn current(&self) -> Arc<JwkSet> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.file);
        if now != loaded.stamp {
            // Remembered also when the file is bad: it is then reported once.
            loaded.stamp = now;
            match load(&self.file) {
                Ok(keys) => {
                    tracing::info!(file = %self.file.display(), keys = keys.keys.len(), "token keys read again");
                    loaded.keys = Arc::new(keys);
                }
                Err(e) => tracing::error!("{e}; the keys read before stay in force"),
            }
        }
        Arc::clone(&loaded.keys)
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn load(file: &Path) -> Result<JwkSet, JwksError> {
    let file = file.to_owned();
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(source) => return Err(JwksError::Read { file, source }),
    };
    match serde_json::from_slice::<JwkSet>(&text) {
        Ok(keys) if keys.keys.is_empty() => Err(JwksError::Empty { file }),
        Ok(keys) => Ok(keys),
        Err(source) => Err(JwksError::Parse { file, source }),
    }
}
