//! Adds the plugin to the text of a network configuration list, and takes it out again.
//!
//! Only the bytes of the plugin's own entry change: what others wrote stays as they wrote it, also what is not
//! known here. Taking out what was put in gives the text from before.

use serde_json::Value;
use std::ops::Range;
use thiserror::Error;

use super::NAME;

/// A configuration that cannot be used; names the field.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum ConfError {
    /// It cannot be parsed.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// A field does not have the right type.
    #[error("{0}: must be {1}")]
    Field(String, &'static str),
    /// There is nothing to come after.
    #[error("plugins: is empty; the plugin that makes the network must be in it")]
    Empty,
    /// Nothing would be left.
    #[error(
        "plugins: has only mesh-cni; remove the file, or add the plugin that makes the network"
    )]
    Alone,
}

/// The list with `plugin` at its end, or in place of its older self.
pub(super) fn with_plugin(text: &str, plugin: &Value) -> Result<String, ConfError> {
    let plugins = plugins(text)?;
    let entry = plugin.to_string();
    let at = match plugins.iter().find(|at| is_ours(text, at)) {
        Some(own) => own.clone(),
        None => {
            let last = plugins.last().ok_or(ConfError::Empty)?;
            // As the entry before begins: a line of its own, or not.
            let before = text[..last.start].trim_end().len();
            let gap = &text[before..last.start];
            let (head, tail) = text.split_at(last.end);
            return Ok(format!("{head},{gap}{entry}{tail}"));
        }
    };
    Ok(format!("{}{entry}{}", &text[..at.start], &text[at.end..]))
}

/// The list without the plugin; none when it is not in it.
pub(super) fn without_plugin(text: &str) -> Result<Option<String>, ConfError> {
    let plugins = plugins(text)?;
    let Some(own) = plugins.iter().position(|at| is_ours(text, at)) else {
        return Ok(None);
    };
    let cut = match (own.checked_sub(1), plugins.get(own + 1)) {
        (Some(before), _) => plugins[before].end..plugins[own].end,
        (None, Some(after)) => plugins[own].start..after.start,
        (None, None) => return Err(ConfError::Alone),
    };
    Ok(Some(format!("{}{}", &text[..cut.start], &text[cut.end..])))
}

/// Whether the plugin is in the list.
pub(super) fn has_plugin(text: &str) -> Result<bool, ConfError> {
    Ok(plugins(text)?.iter().any(|at| is_ours(text, at)))
}

/// The list that stands for a configuration of a single plugin.
pub(super) fn from_single(text: &str) -> Result<String, ConfError> {
    let single = parse(text)?;
    let field = |name: &str| match &single[name] {
        Value::String(text) => Ok(Value::from(&**text).to_string()),
        _ => Err(ConfError::Field(name.into(), "a string")),
    };
    field("type")?;
    let (version, name) = (field("cniVersion")?, field("name")?);
    let plugin = text.trim();
    Ok(format!(
        "{{\n  \"cniVersion\": {version},\n  \"name\": {name},\n  \"plugins\": [\n    {plugin}\n  ]\n}}\n"
    ))
}

fn parse(text: &str) -> Result<Value, ConfError> {
    let value: Value = serde_json::from_str(text).map_err(|e| ConfError::Json(e.to_string()))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(ConfError::Field("the whole".into(), "an object")),
    }
}

fn is_ours(text: &str, at: &Range<usize>) -> bool {
    serde_json::from_str::<Value>(&text[at.clone()]).is_ok_and(|plugin| plugin["type"] == NAME)
}

/// Where each plugin is in the text.
fn plugins(text: &str) -> Result<Vec<Range<usize>>, ConfError> {
    let value = parse(text)?;
    let Value::Array(list) = &value["plugins"] else {
        return Err(ConfError::Field("plugins".into(), "a list"));
    };
    for (i, plugin) in list.iter().enumerate() {
        if !plugin["type"].is_string() {
            return Err(ConfError::Field(format!("plugins[{i}].type"), "a string"));
        }
    }
    let mut found = Vec::new();
    // Of two fields of one name the last one counts, as for any reader.
    for (key, at) in members(text, 0..text.len()) {
        if key == "plugins" {
            found = elements(text, at);
        }
    }
    Ok(found)
}

/// The fields of an object: each key, and where its value is. The text is known to be JSON.
fn members(text: &str, at: Range<usize>) -> Vec<(String, Range<usize>)> {
    let mut members = Vec::new();
    let mut parts = parts(text, at).into_iter();
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        let key = serde_json::from_str(&text[key]).unwrap_or_default();
        members.push((key, value));
    }
    members
}

fn elements(text: &str, at: Range<usize>) -> Vec<Range<usize>> {
    parts(text, at)
}

/// What an object or a list consists of, keys and values alike.
fn parts(text: &str, at: Range<usize>) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    let mut start = None;
    for i in at {
        let byte = bytes[i];
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        let separates = depth == 1 && matches!(byte, b',' | b':' | b']' | b'}');
        if separates {
            parts.extend(start.take().map(|from| from..text[..i].trim_end().len()));
        } else if depth == 1 && start.is_none() && !byte.is_ascii_whitespace() {
            start = Some(i);
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIST: &str = r#"{
  "cniVersion": "1.0.0", "name": "k8s [net], \"x\"",
  "disableCheck" : false , "unknown": {"plugins": ["no", {"type": "mesh-cni"}]},
  "plugins": [
    {"type": "bridge", "ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}]]}, "big": 18446744073709551616.0},
    { "type":"portmap", "capabilities": {"portMappings": true}, "note": "},]\\" }
  ]
}
"#;

    fn plugin(run_dir: &str) -> Value {
        json!({"type": NAME, "runDir": run_dir})
    }

    #[test]
    fn only_the_own_entry_changes_and_goes_without_a_trace() {
        let compact = r#"{"plugins":[{"type":"a"}],"name":"n","cniVersion":"0.3.1"}"#;
        for list in [LIST, compact] {
            assert!(!has_plugin(list).unwrap());
            let added = with_plugin(list, &plugin("/run/a")).unwrap();
            assert!(has_plugin(&added).unwrap());
            let mut expected: Value = serde_json::from_str(list).unwrap();
            let plugins = expected["plugins"].as_array_mut().unwrap();
            plugins.push(plugin("/run/a"));
            assert_eq!(serde_json::from_str::<Value>(&added).unwrap(), expected);
            assert_eq!(with_plugin(&added, &plugin("/run/a")).unwrap(), added);
            let changed = with_plugin(&added, &plugin("/run/b")).unwrap();
            assert_eq!(changed, added.replace("/run/a", "/run/b"));
            assert_eq!(without_plugin(&changed).unwrap().unwrap(), list);
            assert_eq!(without_plugin(list).unwrap(), None);
        }
    }

    #[test]
    fn others_may_come_after_and_before() {
        let text = format!(r#"{{"plugins": [{}, {{"type": "b"}}]}}"#, plugin("/run"));
        assert_eq!(
            without_plugin(&text).unwrap().unwrap(),
            r#"{"plugins": [{"type": "b"}]}"#
        );
        let alone = format!(r#"{{"plugins": [{}]}}"#, plugin("/run"));
        assert_eq!(without_plugin(&alone), Err(ConfError::Alone));
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let single = r#"{"cniVersion": "0.3.1", "name": "net", "type": "ptp", "mtu": 1400}"#;
        let list = from_single(single).unwrap();
        let value: Value = serde_json::from_str(&list).unwrap();
        let only: Value = serde_json::from_str(single).unwrap();
        let expected = json!({"cniVersion": "0.3.1", "name": "net", "plugins": [only]});
        assert_eq!(value, expected);
        assert!(with_plugin(&list, &plugin("/run")).is_ok());
        let nameless = from_single(r#"{"cniVersion": "0.3.1", "type": "ptp"}"#).unwrap_err();
        assert_eq!(nameless.to_string(), "name: must be a string");
    }

    #[test]
    fn a_bad_list_is_refused_by_field() {
        let why = |text: &str| has_plugin(text).unwrap_err().to_string();
        assert!(why("{").contains("no JSON"));
        assert!(why("[]").contains("the whole: must be an object"));
        assert_eq!(why(r#"{"plugins": {}}"#), "plugins: must be a list");
        let untyped = r#"{"plugins": [{"type": "a"}, {}]}"#;
        assert_eq!(why(untyped), "plugins[1].type: must be a string");
        let empty = with_plugin(r#"{"plugins": []}"#, &plugin("/run"));
        assert_eq!(empty, Err(ConfError::Empty));
    }
}
