//! Splits a file into Kubernetes documents and expands lists of them.

use std::path::Path;

use serde::Deserialize;
use serde_norway::Value;

use super::Problem;

/// One object of a file, not yet typed.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// From 1; the items of a List share their document's number.
    pub(super) number: usize,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) value: Value,
}

/// Parses a file. After a syntax error the rest of the file is not understood, so it ends there.
pub(super) fn parse(file: &Path, text: &str) -> (Vec<Document>, Vec<Problem>) {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for (i, document) in serde_norway::Deserializer::from_str(text).enumerate() {
        let number = i + 1;
        let problem = |message: String| Problem {
            file: file.to_owned(),
            document: Some(number),
            object: None,
            message,
        };
        let parsed = Value::deserialize(document).and_then(|mut value| {
            value.apply_merge()?;
            Ok(value)
        });
        match parsed {
            Ok(Value::Null) => {}
            Ok(value) => {
                if let Err(message) = expand(number, value, None, &mut documents) {
                    problems.push(problem(message));
                }
            }
            Err(e) => {
                problems.push(problem(format!(
                    "is not valid YAML: {e}; correct the syntax"
                )));
                break;
            }
        }
    }
    (documents, problems)
}

/// Adds the document, or the items of a `List` (or `PodList`, which types its items itself).
fn expand(
    number: usize,
    mut value: Value,
    of: Option<(&str, &str)>,
    out: &mut Vec<Document>,
) -> Result<(), String> {
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let api_version = text(&value, "apiVersion").or(of.map(|(api_version, _)| api_version.into()));
    let kind = text(&value, "kind").or(of.map(|(_, kind)| kind.into()));
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        return Err("has no apiVersion and kind; is it a Kubernetes object? \
                    Add both or move the file out of the directory"
            .into());
    };
    let item_kind = kind.strip_suffix("List");
    let is_list =
        item_kind.is_some() && value.get("metadata").and_then(|m| m.get("name")).is_none();
    match (item_kind, value.get_mut("items").map(Value::take)) {
        (Some(item_kind), Some(Value::Sequence(items))) if is_list => {
            let typed = (!item_kind.is_empty()).then_some((api_version.as_str(), item_kind));
            items
                .into_iter()
                .try_for_each(|item| expand(number, item, typed, out))
        }
        (Some(_), None | Some(Value::Null)) if is_list => Ok(()),
        _ => {
            out.push(Document {
                number,
                api_version,
                kind,
                value,
            });
            Ok(())
        }
    }
}

trait Take {
    fn take(&mut self) -> Value;
}

impl Take for Value {
    fn take(&mut self) -> Value {
        std::mem::replace(self, Value::Null)
    }
}
