//! Where an authority is kept, read and written as a whole: a directory or a Secret.

use std::time::SystemTime;

use super::directory::{self, Directory};
use super::secret::{self, SecretStore};
use super::{CaError, Material, Place, Signer};

/// A directory or a Secret.
pub enum Store {
    /// Files, the key readable by its owner alone.
    Directory(Directory),
    /// A Kubernetes Secret.
    Secret(Box<SecretStore>),
}

/// What was read, and which version of it that is.
pub struct Read {
    /// The files.
    pub material: Material,
    pub(super) version: Option<String>,
}

impl Store {
    /// What it is called.
    pub fn place(&self) -> &Place {
        match self {
            Self::Directory(directory) => directory.place(),
            Self::Secret(secret) => secret.place(),
        }
    }

    /// What is there; `None` when there is nothing.
    pub async fn read(&self) -> Result<Option<Read>, CaError> {
        match self {
            Self::Directory(directory) => {
                let material = directory.read()?;
                Ok((!material.is_empty()).then_some(Read {
                    material,
                    version: None,
                }))
            }
            Self::Secret(secret) => secret.read().await,
        }
    }

    /// What is there; a new self-signed authority is put there first when there is none. Of several
    /// that do this at the same time, all return the same one.
    pub async fn read_or_create(&self) -> Result<Material, CaError> {
        if let Some(read) = self.read().await?
            && self.is_complete(&read.material)
        {
            return Ok(read.material);
        }
        let made = Signer::create(SystemTime::now()).map_err(|e| CaError::Key {
            file: self.place().to_string(),
            reason: format!("cannot make a CA: {e}"),
        })?;
        let created = match self {
            Self::Directory(directory) => directory.create(&made).await?,
            Self::Secret(secret) => secret.create(&made).await?,
        };
        if created {
            tracing::info!(place = %self.place(), "created a self-signed certificate authority");
            return Ok(made);
        }
        match self.read().await? {
            Some(read) => Ok(read.material),
            None => Err(CaError::Gone {
                place: self.place().to_string(),
            }),
        }
    }

    /// False while another process may be writing it.
    fn is_complete(&self, material: &Material) -> bool {
        match self {
            Self::Directory(_) => directory::is_complete(material),
            Self::Secret(_) => true,
        }
    }

    /// Writes `to` over what was `read`. A reader at any moment in between finds a usable state, and so
    /// does one after a crash.
    pub async fn write(&self, read: &Read, to: &Material) -> Result<Read, CaError> {
        match self {
            Self::Directory(directory) => {
                directory.write(&read.material, to)?;
                Ok(Read {
                    material: to.clone(),
                    version: None,
                })
            }
            Self::Secret(secret) => secret.write(read, to).await,
        }
    }

    pub(super) fn changes(&self) -> Changes {
        match self {
            Self::Directory(directory) => Changes::Directory(directory.changes()),
            Self::Secret(secret) => Changes::Secret(secret.changes()),
        }
    }
}

/// Tells what is there whenever that may have changed.
pub(super) enum Changes {
    Directory(directory::Poll),
    Secret(secret::Watch),
}

impl Changes {
    pub(super) async fn next(&mut self) -> Result<Material, CaError> {
        match self {
            Self::Directory(poll) => poll.next().await,
            Self::Secret(watch) => watch.next().await,
        }
    }
}
