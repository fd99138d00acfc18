//! What install shows.

use serde::Serialize;

use super::diff::Change;
use super::object::Id;
use super::plan::{Action, Step};
use crate::meshctl::CliError;
use crate::meshctl::output::{Cell, Column, Output, Table, Tone};

#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    id: Id,
    action: Action,
    #[serde(skip_serializing_if = "<[Change]>::is_empty")]
    changes: &'a [Change],
}

#[derive(Serialize)]
struct Report<'a> {
    items: Vec<Item<'a>>,
    notes: &'a [String],
}

/// Objects, and what became of them.
pub(super) fn show(steps: &[Step], notes: &[String], output: &Output) -> Result<(), CliError> {
    let report = Report {
        items: steps
            .iter()
            .map(|step| Item {
                id: Id::of(&step.object),
                action: step.action,
                changes: &step.changes,
            })
            .collect(),
        notes,
    };
    let columns = ["KIND", "NAMESPACE", "NAME", "DONE"].map(Column::text);
    let mut table = Table::new(&columns);
    for Item { id, action, .. } in &report.items {
        let (done, tone) = done(*action);
        table.row([
            id.kind.as_str().into(),
            Cell::maybe(id.namespace.as_deref()),
            id.name.as_str().into(),
            Cell::new(done, tone),
        ]);
    }
    output.show(&report, [&table])
}

fn done(action: Action) -> (&'static str, Tone) {
    match action {
        Action::Create => ("created", Tone::Good),
        Action::Change => ("changed", Tone::Doubtful),
        Action::Unchanged => ("unchanged", Tone::Plain),
        Action::Keep => ("kept", Tone::Faint),
    }
}

/// What would change, field by field.
pub(super) fn show_diff(steps: &[Step], notes: &[String], output: &Output) -> Result<(), CliError> {
    let changing = steps.iter().filter(|step| would_change(step));
    if !output.is_table() {
        let items = changing.map(|step| Item {
            id: Id::of(&step.object),
            action: step.action,
            changes: &step.changes,
        });
        let report = Report {
            items: items.collect(),
            notes,
        };
        return output.show(&report, []);
    }
    let mut text = String::new();
    for step in changing {
        let id = Id::of(&step.object);
        let (verb, tone) = match step.action {
            Action::Create => ("create", Tone::Good),
            _ => ("change", Tone::Doubtful),
        };
        text.push_str(&format!("{} {id}\n", output.tinted(tone, verb)));
        let mut last = None;
        for change in &step.changes {
            // Entries of one list follow each other.
            if last.replace(&change.field) != Some(&change.field) {
                text.push_str(&format!("  {}\n", change.field));
            }
            for (sign, value, tone) in [
                ("-", &change.from, Tone::Bad),
                ("+", &change.to, Tone::Good),
            ] {
                if let Some(value) = value {
                    let line = format!("{sign} {value}");
                    text.push_str(&format!("    {}\n", output.tinted(tone, &line)));
                }
            }
        }
    }
    output.write(text.as_bytes())
}

/// Whether applying it is more than to own what is there.
pub(super) fn would_change(step: &Step) -> bool {
    matches!(step.action, Action::Create | Action::Change)
}
