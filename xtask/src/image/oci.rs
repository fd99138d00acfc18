//! One image as one tar file: an OCI layout that also carries what `docker load` reads.
//!
//! `ctr images import`, `docker load`, `podman load`, `skopeo copy oci-archive:` take it. The SBOM is in the layout
//! as an artifact that refers to the image.

use super::blob::{Blob, CONFIG, EMPTY, INDEX, LAYER, MANIFEST, SBOM};
use super::layer::{Archive, gzip};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A file of an image.
pub(crate) struct File {
    /// Where it is in the image, without the leading slash.
    pub(crate) path: String,
    /// Its permissions.
    pub(crate) mode: u32,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
}

/// What an image is made of.
pub(crate) struct Image {
    /// Repository and tag, such as `localhost/weft/mesh-node:0.1.0`.
    pub(crate) reference: String,
    /// As OCI names it: `amd64`, `arm64`.
    pub(crate) architecture: &'static str,
    /// What runs, and its arguments.
    pub(crate) entrypoint: Vec<String>,
    /// `UID:GID`, numeric.
    pub(crate) user: &'static str,
    /// `org.opencontainers.image.*`.
    pub(crate) labels: BTreeMap<String, String>,
    /// All that is in it.
    pub(crate) files: Vec<File>,
    /// CycloneDX JSON, if there is a bill of materials.
    pub(crate) sbom: Option<Vec<u8>>,
    /// When it was made, seconds since 1970, and the same as RFC 3339 has it.
    pub(crate) time: (u64, String),
}

/// An image as it is stored.
pub(crate) struct Packed {
    /// The tar file.
    pub(crate) archive: Vec<u8>,
    /// The digest of its manifest, by which registries and nodes know it.
    pub(crate) digest: String,
}

impl Image {
    /// Packs it. Equal images give equal bytes.
    pub(crate) fn pack(&self) -> Result<Packed> {
        let tar = self.layer()?;
        let uncompressed = Blob {
            kind: LAYER,
            bytes: tar,
        };
        let layer = Blob {
            kind: LAYER,
            bytes: gzip(&uncompressed.bytes)?,
        };
        let config = Blob::json(CONFIG, &self.config(&uncompressed.digest()));
        let manifest = Blob::json(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor(),
                "layers": [layer.descriptor()],
                "annotations": self.labels,
            }),
        );
        let digest = manifest.digest();
        let referrers = self.referrers(&manifest);
        let index = Blob::json(INDEX, &self.index(&manifest, referrers.first()));
        let for_docker = json!([{
            "Config": blob_path(&config),
            "RepoTags": [self.reference],
            "Layers": [blob_path(&layer)],
        }]);
        let mut archive = Archive::new(self.time.0);
        archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        archive.file("index.json", 0o644, &index.bytes)?;
        archive.file("manifest.json", 0o644, for_docker.to_string().as_bytes())?;
        for blob in [&manifest, &config, &layer].into_iter().chain(&referrers) {
            archive.file(&blob_path(blob), 0o644, &blob.bytes)?;
        }
        Ok(Packed {
            archive: archive.finish()?,
            digest,
        })
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::new(self.time.0);
        for file in &self.files {
            archive.file(&file.path, file.mode, &file.bytes)?;
        }
        archive.finish()
    }

    fn config(&self, layer: &str) -> Value {
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": self.time.1,
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/bin"],
                "Labels": self.labels,
                "User": self.user,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer]},
            "history": [{"created": self.time.1, "created_by": "cargo xtask image"}],
        })
    }

    /// The artifact that says of what the image is made, and the blobs that it refers to.
    fn referrers(&self, manifest: &Blob) -> Vec<Blob> {
        let Some(sbom) = &self.sbom else {
            return Vec::new();
        };
        let sbom = Blob {
            kind: SBOM,
            bytes: sbom.clone(),
        };
        let empty = Blob::json(EMPTY, &json!({}));
        let referrer = Blob::json(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": SBOM,
                "config": empty.descriptor(),
                "layers": [sbom.descriptor()],
                "subject": manifest.descriptor(),
            }),
        );
        vec![referrer, empty, sbom]
    }

    fn index(&self, manifest: &Blob, referrer: Option<&Blob>) -> Value {
        let mut image = manifest.descriptor();
        image["platform"] = json!({"architecture": self.architecture, "os": "linux"});
        image["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.reference,
        });
        let mut manifests = vec![image];
        manifests.extend(referrer.map(|referrer| {
            let mut sbom = referrer.descriptor();
            sbom["artifactType"] = json!(SBOM);
            sbom
        }));
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    }
}

fn blob_path(blob: &Blob) -> String {
    format!("blobs/sha256/{}", blob.hash())
}

#[cfg(test)]
mod tests;
