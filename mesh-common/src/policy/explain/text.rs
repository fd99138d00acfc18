//! An explanation for people: the verdict, what came nearest, and the trace below.

use std::fmt;

use super::{ConditionTrace, Explanation, NearMiss, PolicyTrace};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        if let Some(nearest) = &self.nearest {
            writeln!(f, "nearest: {nearest}")?;
        }
        for hit in &self.reports.audit {
            writeln!(f, "audit: {} rule {}", hit.policy, hit.rule)?;
        }
        if let Some(would_be) = &self.reports.dry_run {
            writeln!(f, "dry run: {would_be}")?;
        }
        for policy in &self.policies {
            write!(f, "{policy}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.policy, self.rule)?;
        for (n, condition) in self.failed.iter().enumerate() {
            let before = if n == 0 { ", which failed on " } else { "; " };
            write!(f, "{before}{condition}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PolicyTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dry_run = if self.dry_run { ", dry run" } else { "" };
        let said = match (self.unreadable, self.rules.is_empty()) {
            (true, _) => "cannot be read, so it denies",
            (false, true) => "has no rules, so it matches nothing",
            (false, false) => matched(self.matched),
        };
        writeln!(
            f,
            "{} {} ({}{dry_run}): {said}",
            self.action, self.policy, self.scope
        )?;
        for (n, rule) in self.rules.iter().enumerate() {
            writeln!(f, "  rule {n}: {}", matched(rule.matched))?;
            for clause in &rule.clauses {
                let mut before = "all of";
                for alternative in &clause.alternatives {
                    writeln!(f, "    {before}: {}", matched(alternative.matched))?;
                    before = "or all of";
                    for condition in &alternative.conditions {
                        let sign = if condition.matched { '+' } else { '-' };
                        writeln!(f, "      {sign} {condition}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for ConditionTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if self.wanted.is_empty() {
            return Ok(());
        }
        let found = self.found.as_deref().unwrap_or("no proven identity");
        write!(f, " {}: found {found}", self.wanted.join(", "))
    }
}

fn matched(matched: bool) -> &'static str {
    if matched { "matched" } else { "not matched" }
}
