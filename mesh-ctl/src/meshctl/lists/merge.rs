//! What all agents should know alike, as one list.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::super::text;
use super::filter::Named;

/// An object of which only parts matter here; the whole is shown to programs.
#[derive(Clone, Debug)]
pub struct Object<V> {
    whole: Value,
    view: V,
}

impl<'de, V: DeserializeOwned> Deserialize<'de> for Object<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(deserializer)?;
        let view = V::deserialize(&whole).map_err(D::Error::custom)?;
        Ok(Self { whole, view })
    }
}

/// What every agent knows under a name.
pub trait Listed: Named {
    /// One of a kind, and the order in which it is listed.
    fn key(&self) -> String;
}

/// An object, and on which agents it is not so.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Merged<V> {
    #[serde(flatten)]
    whole: Value,
    /// What matters of it here.
    #[serde(skip)]
    pub view: V,
    /// The agents that do not know it, although others do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_on: Vec<String>,
    /// The agents that know it otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differs_on: Vec<String>,
}

impl<V> Merged<V> {
    /// Says something more of it.
    pub fn add(&mut self, key: &str, value: impl Into<Value>) {
        if let Value::Object(fields) = &mut self.whole {
            fields.insert(key.to_owned(), value.into());
        }
    }

    /// The agents on which it is not as it is shown.
    pub fn exceptions(&self) -> String {
        let missing = self
            .missing_on
            .iter()
            .map(|node| format!("{node}: missing"));
        let differs = self
            .differs_on
            .iter()
            .map(|node| format!("{node}: differs"));
        missing.chain(differs).collect::<Vec<_>>().join(", ")
    }
}

/// Says on standard error if agents do not know the same.
pub fn note_exceptions<V>(items: &[Merged<V>], [one, many]: [&str; 2]) {
    let differing = items.iter().filter(|item| !item.exceptions().is_empty());
    let count = differing.count();
    if count > 0 {
        let counted = text::counted(count, one, many);
        eprintln!("note: {counted} not known alike to all agents; -o wide says where");
    }
}

impl<V: Named> Named for Merged<V> {
    fn namespaces(&self) -> Vec<&str> {
        self.view.namespaces()
    }

    fn names(&self) -> Vec<&str> {
        self.view.names()
    }
}

/// One list of what the agents know, in the order of the keys. Of what differs, the first agent's is shown.
pub fn merge<V: Listed>(answers: Vec<(String, Vec<Object<V>>)>) -> Vec<Merged<V>> {
    let agents: Vec<String> = answers.iter().map(|(node, _)| node.clone()).collect();
    let mut merged: BTreeMap<String, (Merged<V>, Vec<usize>)> = BTreeMap::new();
    for (number, (node, objects)) in answers.into_iter().enumerate() {
        for object in objects {
            let key = object.view.key();
            match merged.get_mut(&key) {
                Some((known, on)) => {
                    if known.whole != object.whole {
                        known.differs_on.push(node.clone());
                    }
                    on.push(number);
                }
                None => {
                    let first = Merged {
                        whole: object.whole,
                        view: object.view,
                        missing_on: Vec::new(),
                        differs_on: Vec::new(),
                    };
                    merged.insert(key, (first, vec![number]));
                }
            }
        }
    }
    let complete = |(mut known, on): (Merged<V>, Vec<usize>)| {
        let missing = agents.iter().enumerate();
        let missing = missing.filter(|(number, _)| !on.contains(number));
        known.missing_on = missing.map(|(_, node)| node.clone()).collect();
        known
    };
    merged.into_values().map(complete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Clone, Debug, Deserialize)]
    struct View {
        name: String,
    }

    impl Named for View {
        fn namespaces(&self) -> Vec<&str> {
            Vec::new()
        }

        fn names(&self) -> Vec<&str> {
            vec![&self.name]
        }
    }

    impl Listed for View {
        fn key(&self) -> String {
            self.name.clone()
        }
    }

    fn objects(list: &Value) -> Vec<Object<View>> {
        serde_json::from_value(list.clone()).unwrap()
    }

    #[test]
    fn what_agents_do_not_agree_on_is_said() {
        let merged = merge(vec![
            (
                "n1".to_owned(),
                objects(&json!([{"name": "b", "x": 1}, {"name": "a", "x": 1}])),
            ),
            (
                "n2".to_owned(),
                objects(&json!([{"name": "b", "x": 2}, {"name": "c", "x": 1}])),
            ),
        ]);
        let shown = serde_json::to_value(&merged).unwrap();
        assert_eq!(
            shown,
            json!([
                {"name": "a", "x": 1, "missingOn": ["n2"]},
                {"name": "b", "x": 1, "differsOn": ["n2"]},
                {"name": "c", "x": 1, "missingOn": ["n1"]},
            ])
        );
        assert_eq!(merged[1].exceptions(), "n2: differs");
    }

    #[test]
    fn an_object_without_what_matters_is_refused() {
        assert!(serde_json::from_value::<Vec<Object<View>>>(json!([{"x": 1}])).is_err());
    }
}
