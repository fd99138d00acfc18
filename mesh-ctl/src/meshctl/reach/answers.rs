//! What those that were asked said, and who said nothing.

use serde::Serialize;

use super::error::{AskError, ReachError};
use super::peer::{Role, Target};
use crate::meshctl::Exit;
use mesh_common::suggest;

/// Who did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreachable {
    /// What it is.
    pub role: Role,
    /// The node, or the controller's pod; none when only its address is known.
    pub name: Option<String>,
    /// The address or pod that was tried.
    pub target: String,
    /// Why, and what to do.
    pub reason: String,
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => {
                write!(f, "{} {name} ({}): {}", self.role, self.target, self.reason)
            }
            None => write!(f, "{} {}: {}", self.role, self.target, self.reason),
        }
    }
}

/// What became of one target.
pub(super) enum Outcome<T> {
    /// Its name, and what it said.
    Answer(String, T),
    /// The one of this name is there, but it is none of those wanted.
    NotAsked(String),
}

/// The answers, by name.
#[derive(Debug)]
pub struct Answers<T> {
    /// Name of the node or controller, and what it said; in the order of the names.
    pub of: Vec<(String, T)>,
    /// Who did not answer.
    pub unreachable: Vec<Unreachable>,
    others: Vec<String>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self {
            of: Vec::new(),
            unreachable: Vec::new(),
            others: Vec::new(),
        }
    }
}

impl<T> Answers<T> {
    pub(super) fn add(&mut self, target: &Target, outcome: Result<Outcome<T>, AskError>) {
        match outcome {
            Ok(Outcome::Answer(name, answer)) => {
                let at = self.of.partition_point(|(other, _)| *other <= name);
                self.of.insert(at, (name, answer));
            }
            Ok(Outcome::NotAsked(name)) => self.others.push(name),
            Err(error) => self.unreachable.push(Unreachable {
                role: target.role(),
                name: target.name().map(str::to_owned),
                target: target.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    /// These answers, if every one of the names is among them or may be that of one that did not answer.
    /// When all have answered, one whose name is not known is none of them.
    pub(super) fn named(mut self, wanted: &[String]) -> Result<Self, ReachError> {
        let answered = |name: &String| self.of.iter().any(|(other, _)| other == name);
        let lost = |name: &String| {
            let mut names = self.unreachable.iter().map(|u| u.name.as_ref());
            names.any(|other| other.is_none_or(|other| other == name))
        };
        if let Some(name) = wanted.iter().find(|name| !answered(name) && !lost(name)) {
            let names = self.of.iter().map(|(name, _)| name).chain(&self.others);
            let hint = suggest::suggestion(name, names.map(String::as_str));
            return Err(ReachError::NoSuchNode(name.clone(), hint));
        }
        if !wanted.is_empty() && wanted.iter().all(answered) {
            self.unreachable.retain(|u| u.name.is_some());
        }
        Ok(self)
    }

    /// These answers, if there are any.
    pub fn some(self) -> Result<Self, ReachError> {
        if self.of.is_empty() && !self.unreachable.is_empty() {
            return Err(ReachError::NoneAnswered(self.unreachable));
        }
        Ok(self)
    }

    /// The exit code: everything, or only a part.
    pub fn exit(&self) -> Exit {
        if self.unreachable.is_empty() {
            Exit::Success
        } else {
            Exit::Partial
        }
    }

    /// Names those who did not answer on standard error.
    pub fn warn(&self) {
        for one in &self.unreachable {
            eprintln!("warning: {one}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who answered, who did not (none: its name is not known), and who was not asked.
    fn answers(of: &[&str], lost: &[Option<&str>], others: &[&str]) -> Answers<()> {
        let lost = lost.iter().map(|name| Unreachable {
            role: Role::Agent,
            name: name.map(str::to_owned),
            target: "http://10.0.0.9:15000".into(),
            reason: "gone".into(),
        });
        Answers {
            of: of.iter().map(|name| ((*name).to_owned(), ())).collect(),
            unreachable: lost.collect(),
            others: others.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn named(answers: Answers<()>, wanted: &[&str]) -> Result<(usize, Exit), String> {
        let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let named = answers.named(&wanted).map_err(|e| e.to_string())?;
        Ok((named.of.len(), named.exit()))
    }

    #[test]
    fn one_that_did_not_answer_may_be_the_one_that_is_wanted() {
        let cases = [
            (answers(&["n1"], &[None], &[]), &[][..], (1, Exit::Partial)),
            // All that were wanted are there: who else did not answer is of no interest.
            (
                answers(&["n1"], &[None], &["n2"]),
                &["n1"],
                (1, Exit::Success),
            ),
            (answers(&[], &[None], &["n2"]), &["n1"], (0, Exit::Partial)),
            (
                answers(&["n1"], &[Some("n3")], &[]),
                &["n1", "n3"],
                (1, Exit::Partial),
            ),
        ];
        for (answers, wanted, expected) in cases {
            assert_eq!(named(answers, wanted), Ok(expected), "{wanted:?}");
        }
    }

    #[test]
    fn a_node_that_nobody_can_be_is_a_wrong_name() {
        assert_eq!(
            named(answers(&["n1"], &[], &["n2"]), &["n1", "n9"]),
            Err("there is no agent on a node \"n9\"; did you mean \"n1\"?".to_owned())
        );
        let known = answers(&[], &[Some("n3")], &["elsewhere"]);
        let error = "there is no agent on a node \"elswhere\"; did you mean \"elsewhere\"?";
        assert_eq!(named(known, &["n3", "elswhere"]), Err(error.to_owned()));
    }

    #[test]
    fn no_answer_at_all_names_everybody() {
        let none = answers(&[], &[None, Some("n3")], &[]);
        assert_eq!(
            none.some().unwrap_err().to_string(),
            "all 2 failed:\n  agent http://10.0.0.9:15000: gone\n  agent n3 (http://10.0.0.9:15000): gone"
        );
        let one = answers(&[], &[Some("n3")], &[]).some().unwrap_err();
        assert_eq!(one.to_string(), "agent n3 (http://10.0.0.9:15000): gone");
        assert!(answers(&[], &[], &[]).some().is_ok());
    }
}
