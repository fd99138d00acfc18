//! An answer for people: the verdict first, then why, then the trace of each policy.

use std::fmt::Write as _;

use mesh_common::policy::{ConditionTrace, Explanation, NearMiss, Reason};
use mesh_common::question::{Answer, Case, Outcome, Place, Route};

use crate::meshctl::output::{Output, Tone};

/// More pods than this are counted, not listed.
const MOST_NAMES: usize = 4;

pub(super) fn render(answer: &Answer, said_by: Option<&str>, output: &Output) -> String {
    let mut out = String::new();
    let question = &answer.question;
    let (word, tone) = match answer.outcome {
        Outcome::Allowed => ("ALLOWED", Tone::Good),
        Outcome::Denied => ("DENIED", Tone::Bad),
        Outcome::Mixed => ("ALLOWED IN PART", Tone::Doubtful),
    };
    line(
        &mut out,
        &format!(
            "{}  {} -> {} port {}",
            output.tinted(tone, word),
            question.from,
            question.to,
            question.port
        ),
    );
    for note in &answer.notes {
        let label = match note.code.as_str() {
            "not-enforced" => output.tinted(Tone::Bad, "WARNING"),
            _ => output.tinted(Tone::Doubtful, "note"),
        };
        line(&mut out, &format!("  {label}: {}", note.text));
    }
    if let Some(node) = said_by {
        line(&mut out, &format!("  said by the agent of node {node}"));
    }
    for case in &answer.cases {
        out.push('\n');
        show_case(&mut out, case, answer, output);
    }
    out
}

fn show_case(out: &mut String, case: &Case, answer: &Answer, output: &Output) {
    let (word, tone) = match (case.allowed, case.route) {
        (true, Route::NotEnforced) => ("allowed, nothing enforced", Tone::Bad),
        (true, _) => ("allowed", Tone::Good),
        (false, _) => ("denied", Tone::Bad),
    };
    line(out, &output.tinted(tone, word));
    line(out, &format!("  from     {}", places(&case.clients)));
    let identity = match (&case.principal, case.route) {
        (Some(id), Route::NotEnforced) => format!("{id} (if it were enforced)"),
        (Some(id), _) => format!("{id} (mutual TLS)"),
        (None, _) => "no proven identity (plaintext)".into(),
    };
    line(out, &format!("  as       {identity}"));
    line(out, &format!("  to       {}", places(&case.servers)));
    if let Some(because) = &case.because {
        line(out, &format!("  because  {because}"));
    }
    let Some(explanation) = &case.explanation else {
        return;
    };
    let label = match case.route {
        Route::NotEnforced | Route::Refused => "policy would",
        Route::MutualTls | Route::Plaintext => "because",
    };
    decided(out, label, explanation, answer);
    for hit in &explanation.reports.audit {
        let origin = origin(answer, &hit.policy);
        line(
            out,
            &format!("  audit    {} rule {}{origin}", hit.policy, hit.rule),
        );
    }
    if let Some(would_be) = &explanation.reports.dry_run {
        line(out, &format!("  dry run  {would_be}"));
    }
    trace(out, explanation, answer);
}

fn decided(out: &mut String, label: &str, explanation: &Explanation, answer: &Answer) {
    let verdict = &explanation.verdict;
    let by = match (&verdict.policy, verdict.rule) {
        (Some(policy), Some(rule)) => format!("{policy} rule {rule}{}: ", origin(answer, policy)),
        (Some(policy), None) if verdict.reason == Reason::MissingPolicy => {
            format!("{policy}{}: ", origin(answer, policy))
        }
        _ => String::new(),
    };
    let action = match label {
        "because" => String::new(),
        _ => format!("{} it: ", if verdict.is_allow() { "allow" } else { "deny" }),
    };
    line(out, &format!("  {label:<8} {action}{by}{}", verdict.reason));
    if let Some(nearest) = &explanation.nearest {
        near(out, nearest, verdict.reason, answer);
    }
}

fn near(out: &mut String, nearest: &NearMiss, reason: Reason, answer: &Answer) {
    let origin = origin(answer, &nearest.policy);
    if reason != Reason::NoAllowMatched {
        line(out, "  besides  no rule of the ALLOW policies matched");
    }
    line(
        out,
        &format!(
            "  nearest  {} rule {}{origin}",
            nearest.policy, nearest.rule
        ),
    );
    for condition in &nearest.failed {
        line(out, &format!("           {}", failed(condition)));
    }
}

/// `principals is X, the rule wants Y`
fn failed(condition: &ConditionTrace) -> String {
    let field = &condition.field;
    if condition.wanted.is_empty() {
        return format!("{field}, which never allows");
    }
    let wanted = condition.wanted.join(" or ");
    let found = match &condition.found {
        Some(found) => found.as_str(),
        None => "not proven",
    };
    match field.strip_prefix("not").map(str::trim_start) {
        Some(_) => format!("{field}: it is {found}, the rule wants none of {wanted}"),
        None => format!("{field}: it is {found}, the rule wants {wanted}"),
    }
}

fn trace(out: &mut String, explanation: &Explanation, answer: &Answer) {
    if explanation.policies.is_empty() {
        line(out, "  policies none applies to the destination");
        return;
    }
    line(out, "  policies");
    for policy in &explanation.policies {
        let text = policy.to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        line(
            out,
            &format!("    {first}{}", origin(answer, &policy.policy)),
        );
        for rest in lines {
            line(out, &format!("    {rest}"));
        }
    }
}

/// ` [FILE: document N: ...]`, where the file is known.
fn origin(answer: &Answer, policy: &str) -> String {
    let origin = answer.origins.get(policy);
    origin.map_or_else(String::new, |origin| format!(" [{origin}]"))
}

fn places(places: &[Place]) -> String {
    let one = |place: &Place| match place.name == place.address {
        true => place.name.clone(),
        false => format!("{} ({})", place.name, place.address),
    };
    let listed: Vec<_> = places.iter().take(MOST_NAMES).map(one).collect();
    match places.len().saturating_sub(MOST_NAMES) {
        0 => listed.join(", "),
        more => format!("{} and {more} more", listed.join(", ")),
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}
