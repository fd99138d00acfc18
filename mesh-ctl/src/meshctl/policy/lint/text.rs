//! Findings for people.

use super::Report;
use super::finding::{Finding, Severity};
use crate::meshctl::output::{Output, Tone};

pub(super) fn render(report: &Report, output: &Output) -> String {
    let mut out = String::new();
    for found in &report.findings {
        let tone = match found.severity {
            Severity::Info => Tone::Faint,
            Severity::Warning => Tone::Doubtful,
            Severity::Error => Tone::Bad,
        };
        let label = output.tinted(tone, &format!("{}[{}]", found.severity, found.code));
        out.push_str(&format!("{label} {}\n", place(found)));
        out.push_str(&format!("    {}\n", found.what));
        out.push_str(&format!("    help: {}\n", found.remedy));
    }
    if !report.findings.is_empty() {
        out.push('\n');
    }
    out.push_str(&summary(report));
    out
}

/// File, document, object and field, as far as there are any.
fn place(found: &Finding) -> String {
    let document = match found.document {
        0 => String::new(),
        number => format!("document {number}"),
    };
    let parts = [&found.file, &document, &found.object, &found.field];
    let stated: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match stated.is_empty() {
        true => "the directory".to_owned(),
        false => stated.into_iter().cloned().collect::<Vec<_>>().join(": "),
    }
}

fn summary(report: &Report) -> String {
    let count = |severity: Severity| {
        let of = report.findings.iter();
        of.filter(|found| found.severity == severity).count()
    };
    let many = |n: usize, word: &str| match n {
        1 => format!("1 {word}"),
        _ => format!("{n} {word}s"),
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let infos = count(Severity::Info);
    match report.objects {
        Some(objects) => format!(
            "{} checked: {}, {} of severity info\n",
            many(objects, "object"),
            many(warnings, "warning"),
            infos
        ),
        None => format!(
            "{}; nothing else is checked until they are corrected\n",
            many(errors, "error")
        ),
    }
}
