//! What `meshctl` shows, without what cannot be the same twice: times, ages, serials, ports that the kernel
//! chose.

use serde_json::Value;

/// Columns of a table that are different each time.
const COLUMNS: &[&str] = &[
    "AGE",
    "CHAIN EXPIRES",
    "EXPIRES IN",
    "GENERATION",
    "NOT AFTER",
    "NOT BEFORE",
    "SERIAL",
    "STATE AGE",
    "UPTIME",
];
/// Fields of JSON that are different each time.
const FIELDS: &[&str] = &[
    "ageSeconds",
    "generation",
    "notAfter",
    "notBefore",
    "serial",
    "started",
    "stateAgeSeconds",
];
const ANY: &str = "*";
/// The kernel chooses from here on.
const FIRST_EPHEMERAL: u16 = 32768;

/// A table; its columns are separated by ` | `, because what was replaced has other widths.
pub(crate) fn table(text: &str) -> String {
    let mut titles: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line
            .split("  ")
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .collect();
        // An empty line ends a table.
        if cells.is_empty() || titles.is_empty() {
            titles.clone_from(&cells);
            lines.push(cells.join(" | "));
            continue;
        }
        let cells = cells
            .iter()
            .enumerate()
            .map(|(i, cell)| match titles.get(i) {
                Some(title) if COLUMNS.contains(title) && *cell != "-" => ANY.to_owned(),
                _ => words(cell),
            });
        lines.push(cells.collect::<Vec<_>>().join(" | "));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// JSON, indented.
pub(crate) fn json(text: &str) -> anyhow::Result<String> {
    let mut value: Value = serde_json::from_str(text)?;
    replace(&mut value);
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}

/// The same from YAML.
pub(crate) fn yaml(text: &str) -> anyhow::Result<String> {
    let mut value: Value = serde_norway::from_str(text)?;
    replace(&mut value);
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}

fn replace(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let is_time = name == "connected" && field.is_string();
                if !field.is_null() && (is_time || FIELDS.contains(&name.as_str())) {
                    *field = ANY.into();
                }
                replace(field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(replace),
        Value::String(text) => *text = words(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn words(text: &str) -> String {
    // What tells one root from another.
    let is_id = |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split(' ').map(|word| {
        let port = word
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match port {
            Some((host, FIRST_EPHEMERAL..)) => format!("{host}:{ANY}"),
            _ if is_id(word) => ANY.to_owned(),
            _ if word == env!("CARGO_PKG_VERSION") => "VERSION".to_owned(),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn only_what_varies_is_replaced() {
    let shown = "NODE   SOURCE         AGE\nnode1  shop/a:40000   5s\nnode2  1.2.3.4:7001  1m\n\nWarnings:\n  x\n";
    assert_eq!(
        table(shown),
        "NODE | SOURCE | AGE\nnode1 | shop/a:* | *\nnode2 | 1.2.3.4:7001 | *\n\nWarnings:\nx\n"
    );
    let shown =
        r#"{"connected": true, "nodes": [{"connected": "2026", "address": "1.2.3.4:50000"}]}"#;
    let kept: Value = serde_json::from_str(&json(shown).expect("it is JSON")).expect("it is JSON");
    assert_eq!(
        kept,
        serde_json::json!({"connected": true, "nodes": [{"connected": "*", "address": "1.2.3.4:*"}]})
    );
}
