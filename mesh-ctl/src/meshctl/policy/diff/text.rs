//! Changes for people.

use mesh_common::question::Route;

use super::effect::Effect;
use super::report::{Change, Kind, Outcome, Report};
use crate::meshctl::output::{Output, Tone};

/// More clients than this are counted, not listed.
const MOST_CLIENTS: usize = 5;

pub(super) fn render(report: &Report, output: &Output) -> String {
    let mut out = String::new();
    for change in &report.changes {
        let (word, tone) = match change.kind {
            Kind::Closes => ("CLOSES", Tone::Bad),
            Kind::Opens => ("OPENS", Tone::Doubtful),
            Kind::OtherReason => ("OTHER REASON", Tone::Faint),
            Kind::Appears => ("APPEARS", Tone::Faint),
            Kind::Disappears => ("DISAPPEARS", Tone::Faint),
        };
        let port = match change.port {
            Some(port) => format!("port {port}"),
            None => "any other port".to_owned(),
        };
        let word = output.tinted(tone, word);
        out.push_str(&format!(
            "{word}  {} -> {} {port}\n",
            clients(change),
            change.to
        ));
        out.push_str(&format!(
            "  before  {}\n",
            outcome(&change.before, report, 0)
        ));
        out.push_str(&format!(
            "  after   {}\n",
            outcome(&change.after, report, 1)
        ));
        if let Some(nearest) = &change.nearest {
            out.push_str(&format!("  nearest {nearest}\n"));
        }
    }
    if !report.changes.is_empty() {
        out.push('\n');
    }
    out.push_str(&summary(report));
    out
}

fn clients(change: &Change) -> String {
    let listed = change.from[..change.from.len().min(MOST_CLIENTS)].join(", ");
    match change.from.len().saturating_sub(MOST_CLIENTS) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}

fn outcome(outcome: &Outcome, report: &Report, side: usize) -> String {
    if let Some(gone) = &outcome.gone {
        return gone.clone();
    }
    let one = |effect: &Effect| describe(effect, report, side);
    outcome
        .effects
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join("; ")
}

fn describe(effect: &Effect, report: &Report, side: usize) -> String {
    let word = if effect.allowed { "allowed" } else { "denied" };
    let how = match effect.route {
        Route::Plaintext => " in plaintext",
        Route::MutualTls | Route::NotEnforced | Route::Refused => "",
    };
    let policy = effect.policy.as_ref().map_or_else(String::new, |policy| {
        let origin = report.origins[side].get(&**policy);
        let origin = origin.map_or_else(String::new, |origin| format!(" [{origin}]"));
        format!(" by {policy}{origin}")
    });
    let why = match (&effect.reason, effect.because) {
        (Some(reason), _) => reason.to_string(),
        (None, Some(because)) => because.to_owned(),
        (None, None) => String::new(),
    };
    format!("{word}{how}{policy}: {why}")
}

fn summary(report: &Report) -> String {
    let count = |kind: Kind| {
        let of = report.changes.iter().filter(|change| change.kind == kind);
        of.map(|change| change.from.len()).sum::<usize>()
    };
    let skipped = match report.skipped {
        0 => String::new(),
        n => format!("; {n} seen connections are to nobody whom either directory knows"),
    };
    let flows = match report.flows {
        1 => "1 flow".to_owned(),
        n => format!("{n} flows"),
    };
    format!(
        "{} judged: {} close, {} open, {} have another reason, {} appear, {} disappear{skipped}\n",
        flows,
        count(Kind::Closes),
        count(Kind::Opens),
        count(Kind::OtherReason),
        count(Kind::Appears),
        count(Kind::Disappears)
    )
}
