//! Content that is named by its digest, as everything in an image is.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const SBOM: &str = "application/vnd.cyclonedx+json";

/// Bytes and what they are.
pub(crate) struct Blob {
    /// The media type.
    pub(crate) kind: &'static str,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    /// JSON without spaces; `serde_json` keeps the keys of objects sorted.
    pub(crate) fn json(kind: &'static str, value: &Value) -> Self {
        Self {
            kind,
            bytes: value.to_string().into_bytes(),
        }
    }

    /// SHA-256 in hexadecimal, without the algorithm's name.
    pub(crate) fn hash(&self) -> String {
        sha256(&self.bytes)
    }

    /// The digest, as manifests write it.
    pub(crate) fn digest(&self) -> String {
        format!("sha256:{}", self.hash())
    }

    /// How a manifest refers to it.
    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.kind, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn the_digest_is_that_of_the_standard() {
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
