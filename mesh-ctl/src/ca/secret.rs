//! An authority in a Kubernetes Secret, whose keys are the file names. Every write names the version that it
//! changes, so of several writers one succeeds and the others are told.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use super::material::{SecretName, names};
use super::store::Read;
use super::{CaError, Material, Place};

/// The Secret.
pub struct SecretStore {
    api: Api<Secret>,
    name: SecretName,
    place: Place,
}

impl SecretStore {
    /// The Secret of that name, which need not exist yet.
    pub fn new(client: Client, name: SecretName) -> Self {
        Self {
            api: Api::namespaced(client, &name.namespace),
            place: Place::Secret(name.clone()),
            name,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) async fn read(&self) -> Result<Option<Read>, CaError> {
        let secret = self.get().await?;
        let read = secret.map(|secret| Read {
            material: material(&secret),
            version: secret.metadata.resource_version,
        });
        Ok(read.filter(|read| !read.material.is_empty()))
    }

    /// Puts a new authority into the Secret; false when another process was first.
    pub(super) async fn create(&self, made: &Material) -> Result<bool, CaError> {
        let written = match self.get().await? {
            // Somebody made it for us, with nothing in it.
            Some(mut secret) if material(&secret).is_empty() => {
                fill(&mut secret, made);
                self.api
                    .replace(&self.name.name, &PostParams::default(), &secret)
                    .await
            }
            Some(_) => return Ok(false),
            None => {
                let mut secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(self.name.name.clone()),
                        namespace: Some(self.name.namespace.clone()),
                        ..ObjectMeta::default()
                    },
                    type_: Some("Opaque".into()),
                    ..Secret::default()
                };
                fill(&mut secret, made);
                self.api.create(&PostParams::default(), &secret).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(e) => Err(self.fault("create", e)),
        }
    }

    pub(super) async fn write(&self, read: &Read, to: &Material) -> Result<Read, CaError> {
        let raced = || CaError::Raced {
            place: self.place.to_string(),
        };
        let mut secret = self.get().await?.ok_or_else(raced)?;
        if secret.metadata.resource_version != read.version {
            return Err(raced());
        }
        fill(&mut secret, to);
        let written = self
            .api
            .replace(&self.name.name, &PostParams::default(), &secret)
            .await;
        match written {
            Ok(secret) => Ok(Read {
                material: to.clone(),
                version: secret.metadata.resource_version,
            }),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Err(raced()),
            Err(e) => Err(self.fault("update", e)),
        }
    }

    async fn get(&self) -> Result<Option<Secret>, CaError> {
        let got = self.api.get_opt(&self.name.name).await;
        got.map_err(|e| self.fault("get", e))
    }

    fn fault(&self, operation: &'static str, source: kube::Error) -> CaError {
        CaError::Api {
            place: self.place.to_string(),
            operation,
            source: Box::new(source),
        }
    }

    pub(super) fn changes(&self) -> Watch {
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.name.name));
        Watch {
            place: self.place.to_string(),
            // Starts over after a lost watch, with growing pauses.
            events: watcher(self.api.clone(), config).default_backoff().boxed(),
            found: None,
        }
    }
}

/// The Secret whenever it changed.
pub(super) struct Watch {
    place: String,
    events: Pin<Box<dyn Stream<Item = Result<watcher::Event<Secret>, watcher::Error>> + Send>>,
    /// What a listing under way has shown so far.
    found: Option<Material>,
}

impl Watch {
    pub(super) async fn next(&mut self) -> Result<Material, CaError> {
        loop {
            match self.events.next().await {
                Some(Ok(watcher::Event::Apply(secret))) => {
                    return self.seen(Some(material(&secret)));
                }
                Some(Ok(watcher::Event::Delete(_))) => return self.seen(None),
                Some(Ok(watcher::Event::Init)) => self.found = None,
                Some(Ok(watcher::Event::InitApply(secret))) => self.found = Some(material(&secret)),
                Some(Ok(watcher::Event::InitDone)) => {
                    let found = self.found.take();
                    return self.seen(found);
                }
                Some(Err(e)) => {
                    return Err(CaError::Watch {
                        place: self.place.clone(),
                        reason: e.to_string(),
                    });
                }
                None => std::future::pending().await,
            }
        }
    }

    fn seen(&self, material: Option<Material>) -> Result<Material, CaError> {
        let material = material.filter(|material| !material.is_empty());
        material.ok_or_else(|| CaError::Gone {
            place: self.place.clone(),
        })
    }
}

fn material(secret: &Secret) -> Material {
    let data = secret.data.as_ref();
    let mut material = Material::default();
    for name in names() {
        if let Some(content) = data.and_then(|data| data.get(&name)) {
            material.insert(&name, content.0.clone());
        }
    }
    material
}

/// What is not of the authority stays.
fn fill(secret: &mut Secret, material: &Material) {
    let data = secret.data.get_or_insert_default();
    for name in names() {
        data.remove(&name);
    }
    for (name, content) in material.iter() {
        data.insert(name.to_owned(), ByteString(content.to_vec()));
    }
}
