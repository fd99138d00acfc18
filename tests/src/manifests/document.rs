//! Objects of Kubernetes in YAML.

use anyhow::{Context as _, Result};
use serde::Deserialize as _;
use serde_json::Value;

/// An object of Kubernetes.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(pub Value);

impl Object {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Kind, namespace and name: what an object is told by.
    pub fn id(&self) -> String {
        let namespace = self.0["metadata"]["namespace"].as_str().unwrap_or_default();
        format!("{} {namespace}/{}", self.kind(), self.name())
    }
}

/// The objects in a file; empty documents are none.
///
/// # Errors
/// When it is no YAML, or a document is no object.
pub fn parse(text: &str) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = Value::deserialize(document).context("it is no YAML")?;
        if value.is_null() {
            continue;
        }
        let object = Object(value);
        anyhow::ensure!(
            !object.kind().is_empty() && !object.name().is_empty(),
            "a document has no kind or no name: {}",
            object.0
        );
        objects.push(object);
    }
    Ok(objects)
}
