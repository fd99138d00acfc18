//! What the shipped manifests are once rendered: the kustomizations and the Helm chart, as far as ours use either.
//!
//! Anything that the manifests use and this does not know is an error, never passed over.

mod document;
mod kustomize;
mod template;

pub use document::{Object, parse};
pub use kustomize::build;
pub use template::{Context, render};

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the manifests.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// What `helm template` makes of the chart in `chart`, installed in `namespace`, with `overrides` merged over its
/// values, with its CRDs.
///
/// # Errors
/// When the chart uses what this does not know, or is no YAML; names the file.
pub fn chart(chart: &Path, namespace: &str, overrides: &Value) -> Result<Vec<Object>> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut values: Value = serde_norway::from_str(&read(&chart.join("values.yaml"))?)
        .context("values.yaml is no YAML")?;
    merge(&mut values, overrides);
    let context = Context {
        namespace: namespace.to_owned(),
        values,
    };
    let mut objects = Vec::new();
    for (folder, is_template) in [("crds", false), ("templates", true)] {
        for path in files(&chart.join(folder))? {
            let mut text = read(&path)?;
            if is_template {
                text = render(&text, &context)
                    .with_context(|| format!("cannot render {}", path.display()))?;
            }
            objects.extend(parse(&text).with_context(|| format!("in {}", path.display()))?);
        }
    }
    Ok(objects)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

/// As Helm merges values: objects by their keys, everything else as a whole.
fn merge(values: &mut Value, over: &Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, value) in over {
                merge(values.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (values, over) => *values = over.clone(),
    }
}
