//! Helm's templates, with `.Values.*`, `.Release.Namespace`, `if`, `toYaml` and `nindent`.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// What a template can refer to.
pub struct Context {
    /// `.Release.Namespace`.
    pub namespace: String,
    /// `.Values`.
    pub values: Value,
}

/// Renders a template.
///
/// # Errors
/// When it uses what this does not know, or refers to a value that is not there.
pub fn render(template: &str, context: &Context) -> Result<String> {
    let mut out = String::new();
    // Of each open `if`: whether its condition holds.
    let mut open: Vec<bool> = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    loop {
        let begin = rest.find("{{");
        let mut text = &rest[..begin.unwrap_or(rest.len())];
        if trim_next {
            text = text.trim_start();
        }
        let Some(begin) = begin else {
            push(&mut out, &open, text);
            break;
        };
        let after = &rest[begin + 2..];
        let end = after.find("}}").context("an action has no end")?;
        let (mut action, following) = (&after[..end], &after[end + 2..]);
        if let Some(trimmed) = action.strip_prefix('-') {
            text = text.trim_end();
            action = trimmed;
        }
        push(&mut out, &open, text);
        trim_next = action.ends_with('-');
        let action = action.trim_end_matches('-').trim();
        if action == "end" {
            open.pop().context("an `end` without an `if`")?;
        } else if let Some(condition) = action.strip_prefix("if ") {
            open.push(holds(&lookup(condition.trim(), context)?));
        } else {
            let value = evaluate(action, context)?;
            push(&mut out, &open, &value);
        }
        rest = following;
    }
    ensure!(open.is_empty(), "an `if` has no end");
    Ok(out)
}

fn push(out: &mut String, open: &[bool], text: &str) {
    if open.iter().all(|holds| *holds) {
        out.push_str(text);
    }
}

fn holds(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn evaluate(action: &str, context: &Context) -> Result<String> {
    let mut stages = action.split('|').map(str::trim);
    let first = stages.next().unwrap_or_default();
    let mut text = match first.strip_prefix("toYaml ") {
        Some(path) => {
            let yaml = serde_norway::to_string(&lookup(path.trim(), context)?)?;
            yaml.trim_end().to_owned()
        }
        None => match lookup(first, context)? {
            Value::String(text) => text,
            value @ (Value::Number(_) | Value::Bool(_)) => value.to_string(),
            _ => bail!("{first} is no plain value"),
        },
    };
    for stage in stages {
        let Some(width) = stage.strip_prefix("nindent ") else {
            bail!("{stage} is not known here");
        };
        let space = " ".repeat(width.trim().parse().context("nindent takes a number")?);
        let lines: Vec<String> = text.lines().map(|line| format!("{space}{line}")).collect();
        text = format!("\n{}", lines.join("\n"));
    }
    Ok(text)
}

fn lookup(path: &str, context: &Context) -> Result<Value> {
    if path == ".Release.Namespace" {
        return Ok(context.namespace.clone().into());
    }
    let names = path
        .strip_prefix(".Values.")
        .with_context(|| format!("{path} is not known here"))?;
    let mut value = &context.values;
    for name in names.split('.') {
        value = value
            .get(name)
            .with_context(|| format!("there is no {path} in the values"))?;
    }
    Ok(value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(template: &str) -> Result<String> {
        let context = Context {
            namespace: "here".into(),
            values: json!({"name": "weft", "on": true, "off": false, "deep": {"b": 1, "a": ["x"]}}),
        };
        render(template, &context)
    }

    #[test]
    fn values_stand_where_they_are_named() {
        let template = "a: {{ .Values.name }}/{{ .Release.Namespace }}:{{ .Values.deep.b }}\n";
        assert_eq!(rendered(template).unwrap(), "a: weft/here:1\n");
    }

    #[test]
    fn what_does_not_hold_is_left_out() {
        let template =
            "{{- if .Values.on }}\nyes\n{{- end }}\n{{- if .Values.off }}\nno\n{{- end }}\n";
        assert_eq!(rendered(template).unwrap(), "\nyes\n");
    }

    #[test]
    fn yaml_is_indented_below_its_key() {
        let template = "a: {{- toYaml .Values.deep | nindent 2 }}\nb: 1\n";
        let value: Value = serde_norway::from_str(&rendered(template).unwrap()).unwrap();
        assert_eq!(value, json!({"a": {"a": ["x"], "b": 1}, "b": 1}));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for template in [
            "{{ .Values.absent }}",
            "{{ include \"x\" . }}",
            "{{ .Values.name | upper }}",
            "{{ .Values.deep }}",
            "{{ if .Values.on }}",
            "{{ end }}",
            "{{ .Values.name",
        ] {
            assert!(rendered(template).is_err(), "{template}");
        }
    }
}
