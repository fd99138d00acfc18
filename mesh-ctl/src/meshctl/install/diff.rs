//! What differs between two states of an object, field by field.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// One field, or one entry of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Change {
    /// Its path; entries of lists that have names are named.
    pub(super) field: String,
    /// What it is; none if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Value>,
    /// What it would be; none if it would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<Value>,
}

/// What the server keeps in an object for itself.
const BOOKKEEPING: [&str; 6] = [
    "managedFields",
    "resourceVersion",
    "uid",
    "creationTimestamp",
    "generation",
    "selfLink",
];

/// The same, as annotations.
const BOOKKEEPING_ANNOTATIONS: [&str; 2] = [
    "deprecated.daemonset.template.generation",
    "deployment.kubernetes.io/revision",
];

/// What leads from one to the other, without status and the server's bookkeeping.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    let (before, after) = (essence(before), essence(after));
    compare("", Some(&before), Some(&after), &mut found);
    found
}

fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !BOOKKEEPING.contains(&key.as_str()));
        if let Some(annotations) = metadata
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            annotations.retain(|key, _| !BOOKKEEPING_ANNOTATIONS.contains(&key.as_str()));
        }
    }
    object
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                compare(&below(path, key), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => list(path, old, new, found),
        _ => found.push(Change {
            field: path.to_owned(),
            from: before.cloned(),
            to: after.cloned(),
        }),
    }
}

fn below(path: &str, key: &str) -> String {
    if key.contains(['.', '/']) {
        format!("{path}[{key}]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn list(path: &str, old: &[Value], new: &[Value], found: &mut Vec<Change>) {
    let before = found.len();
    if let (Some(old), Some(new)) = (names(old), names(new)) {
        let keys: BTreeSet<_> = old.iter().chain(&new).map(|(name, _)| *name).collect();
        let get = |of: &[(&str, &Value)], key| {
            let mut of = of.iter();
            of.find(|(name, _)| *name == key)
                .map(|(_, value)| (*value).clone())
        };
        for key in keys {
            let path = format!("{path}[{key}]");
            compare(
                &path,
                get(&old, key).as_ref(),
                get(&new, key).as_ref(),
                found,
            );
        }
    } else if old
        .iter()
        .chain(new)
        .all(|value| !value.is_object() && !value.is_array())
    {
        let entry = |from: Option<&Value>, to: Option<&Value>| Change {
            field: path.to_owned(),
            from: from.cloned(),
            to: to.cloned(),
        };
        found.extend(without(old, new).map(|value| entry(Some(value), None)));
        found.extend(without(new, old).map(|value| entry(None, Some(value))));
    } else {
        for index in 0..old.len().max(new.len()) {
            compare(
                &format!("{path}[{index}]"),
                old.get(index),
                new.get(index),
                found,
            );
        }
    }
    if found.len() == before {
        // The same entries in another order.
        found.push(Change {
            field: path.to_owned(),
            from: Some(old.to_vec().into()),
            to: Some(new.to_vec().into()),
        });
    }
}

/// The entries by name, if every one has a name of its own.
fn names(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named: Option<Vec<_>> = list
        .iter()
        .map(|entry| Some((entry.get("name")?.as_str()?, entry)))
        .collect();
    let named = named?;
    let distinct: BTreeSet<_> = named.iter().map(|(name, _)| name).collect();
    (distinct.len() == named.len()).then_some(named)
}

fn without<'a>(list: &'a [Value], other: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    list.iter().filter(|value| !other.contains(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(before: &Value, after: &Value) -> Vec<String> {
        let shown = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::to_string);
        let line = |c: &Change| format!("{}: {} {}", c.field, shown(&c.from), shown(&c.to));
        changes(before, after).iter().map(line).collect()
    }

    #[test]
    fn what_the_server_keeps_for_itself_is_no_change() {
        let before =
            json!({"metadata": {"uid": "1", "generation": 1, "name": "a"}, "status": {"x": 1}});
        let after =
            json!({"metadata": {"uid": "1", "generation": 2, "managedFields": [], "name": "a"}});
        assert_eq!(shown(&before, &after), Vec::<String>::new());
        let generation = |number: &str| {
            let annotations = json!({"deprecated.daemonset.template.generation": number});
            json!({"metadata": {"annotations": annotations}})
        };
        let none = Vec::<String>::new();
        assert_eq!(shown(&generation("1"), &generation("2")), none);
    }

    #[test]
    fn every_difference_is_named_by_its_path() {
        let before = json!({
            "metadata": {"labels": {"a.io/b": "1"}},
            "spec": {
                "replicas": 2,
                "gone": true,
                "containers": [{"name": "x", "args": ["--a=1", "--b"]}, {"name": "y"}],
                "rules": [{"verbs": ["get"]}],
            },
        });
        let after = json!({
            "metadata": {"labels": {"a.io/b": "2"}},
            "spec": {
                "replicas": 3,
                "containers": [{"name": "z"}, {"name": "x", "args": ["--b", "--a=2"]}],
                "rules": [{"verbs": ["get"]}, {"verbs": ["list"]}],
            },
        });
        assert_eq!(
            shown(&before, &after),
            [
                "metadata.labels[a.io/b]: \"1\" \"2\"",
                "spec.containers[x].args: \"--a=1\" -",
                "spec.containers[x].args: - \"--a=2\"",
                "spec.containers[y]: {\"name\":\"y\"} -",
                "spec.containers[z]: - {\"name\":\"z\"}",
                "spec.gone: true -",
                "spec.replicas: 2 3",
                "spec.rules[1]: - {\"verbs\":[\"list\"]}",
            ]
        );
    }

    #[test]
    fn another_order_is_a_change() {
        for (before, after) in [
            (json!(["a", "b"]), json!(["b", "a"])),
            (
                json!([{"name": "a"}, {"name": "b"}]),
                json!([{"name": "b"}, {"name": "a"}]),
            ),
            (json!(["a"]), json!(["a", "a"])),
        ] {
            let lines = shown(&json!({"spec": before}), &json!({"spec": after}));
            assert_eq!(lines, [format!("spec: {before} {after}")]);
        }
    }
}
