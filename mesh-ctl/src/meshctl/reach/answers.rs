//! What those that were asked said, and who said nothing.

use serde::Serialize;

use super::error::{AskError, ReachError};
use super::peer::Target;
use crate::meshctl::{Exit, nearest};

/// Who did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreachable {
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
            Some(name) if *name != self.target => {
                write!(f, "{name} ({}): {}", self.target, self.reason)
            }
            _ => write!(f, "{}: {}", self.target, self.reason),
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
                name: target.name().map(str::to_owned),
                target: target.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    /// These answers, if every one of the names is among them or may be one that did not answer. Then, who
    /// is known to be none of them does not count as missing.
    pub(super) fn named(mut self, wanted: &[String]) -> Result<Self, ReachError> {
        let answered = |name: &String| self.of.iter().any(|(other, _)| other == name);
        let missing = wanted.iter().find(|name| !answered(name));
        let Some(name) = missing else {
            if !wanted.is_empty() {
                self.unreachable.retain(|u| u.name.is_some());
            }
            return Ok(self);
        };
        if !self.unreachable.is_empty() {
            return Ok(self);
        }
        let names = self.of.iter().map(|(name, _)| name).chain(&self.others);
        let hint = nearest::suggestion(name, names.map(String::as_str));
        Err(ReachError::NoSuchNode(name.clone(), hint))
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
