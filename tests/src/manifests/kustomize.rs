//! Kustomizations, with `resources` and JSON patches.

use super::document::{Object, parse};
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::Path;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: Target,
    /// YAML of a list of operations.
    patch: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: String,
    path: String,
    value: Option<Value>,
}

/// What `kustomize build` makes of the folder.
///
/// # Errors
/// When the kustomization uses what this does not know, or a patch fits nothing.
pub fn build(folder: &Path) -> Result<Vec<Object>> {
    let file = folder.join("kustomization.yaml");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let kustomization: Kustomization =
        serde_norway::from_str(&text).with_context(|| format!("in {}", file.display()))?;
    let mut objects = Vec::new();
    for resource in &kustomization.resources {
        let path = folder.join(resource);
        if path.is_dir() {
            objects.extend(build(&path)?);
        } else {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            objects.extend(parse(&text).with_context(|| format!("in {}", path.display()))?);
        }
    }
    for patch in &kustomization.patches {
        apply(patch, &mut objects).with_context(|| format!("in {}", file.display()))?;
    }
    Ok(objects)
}

fn apply(patch: &Patch, objects: &mut [Object]) -> Result<()> {
    let Target { kind, name } = &patch.target;
    let found = objects
        .iter_mut()
        .find(|object| object.kind() == kind && object.name() == name);
    let object =
        found.with_context(|| format!("a patch is for {kind} {name}, which is not there"))?;
    let operations: Vec<Operation> =
        serde_norway::from_str(&patch.patch).context("a patch is no list of operations")?;
    for operation in operations {
        operate(&operation, &mut object.0)
            .with_context(|| format!("{} {} of {kind} {name}", operation.op, operation.path))?;
    }
    Ok(())
}

/// One operation of RFC 6902.
fn operate(operation: &Operation, object: &mut Value) -> Result<()> {
    let (parent, last) = operation
        .path
        .rsplit_once('/')
        .context("a path begins with a slash")?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let parent = object
        .pointer_mut(parent)
        .context("there is nothing to change")?;
    let value = || operation.value.clone().context("it has no value");
    match (operation.op.as_str(), parent) {
        ("replace", parent @ Value::Object(_)) => {
            let old = parent
                .get_mut(&last)
                .context("there is nothing to replace")?;
            *old = value()?;
        }
        ("replace", Value::Array(list)) => {
            let index: usize = last.parse().context("a list has numbers")?;
            *list.get_mut(index).context("the list is shorter")? = value()?;
        }
        ("add", Value::Object(map)) => {
            map.insert(last, value()?);
        }
        ("add", Value::Array(list)) if last == "-" => list.push(value()?),
        ("add", Value::Array(list)) => {
            let index: usize = last.parse().context("a list has numbers")?;
            ensure!(index <= list.len(), "the list is shorter");
            list.insert(index, value()?);
        }
        ("remove", Value::Object(map)) => {
            map.remove(&last).context("there is nothing to remove")?;
        }
        ("remove", Value::Array(list)) => {
            let index: usize = last.parse().context("a list has numbers")?;
            ensure!(index < list.len(), "the list is shorter");
            list.remove(index);
        }
        (other, _) => bail!("{other} is not known here"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(op: &str, path: &str, value: Option<Value>) -> Result<Value> {
        let mut object = json!({"a": [1, 2], "b/c": {"d": 3}});
        let operation = Operation {
            op: op.into(),
            path: path.into(),
            value,
        };
        operate(&operation, &mut object)?;
        Ok(object)
    }

    #[test]
    fn operations_do_what_the_standard_says() {
        let changed = |op, path, value| after(op, path, value).unwrap();
        assert_eq!(
            changed("replace", "/a/1", Some(json!(7)))["a"],
            json!([1, 7])
        );
        assert_eq!(changed("replace", "/b~1c/d", Some(json!(7)))["b/c"]["d"], 7);
        assert_eq!(
            changed("add", "/a/-", Some(json!(3)))["a"],
            json!([1, 2, 3])
        );
        assert_eq!(
            changed("add", "/a/0", Some(json!(0)))["a"],
            json!([0, 1, 2])
        );
        assert_eq!(changed("add", "/e", Some(json!(5)))["e"], 5);
        assert_eq!(changed("remove", "/a/0", None)["a"], json!([2]));
        assert_eq!(changed("remove", "/b~1c", None), json!({"a": [1, 2]}));
    }

    #[test]
    fn what_fits_nothing_is_an_error() {
        for (op, path) in [
            ("replace", "/x"),
            ("replace", "/a/2"),
            ("add", "/x/y"),
            ("remove", "/x"),
            ("remove", "/a/2"),
            ("move", "/a/0"),
        ] {
            assert!(after(op, path, Some(json!(1))).is_err(), "{op} {path}");
        }
    }
}
