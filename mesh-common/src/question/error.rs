//! A question that cannot be answered.

use std::fmt;
use thiserror::Error;

/// Which part of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    From,
    /// The server.
    To,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::From => "from",
            Self::To => "to",
        })
    }
}

/// Why a question cannot be answered, and what to ask instead.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuestionError {
    /// It is in no form that is known.
    #[error("{side} {text:?} is no name; write {forms}")]
    Malformed {
        /// Which part.
        side: Side,
        /// What was written.
        text: String,
        /// What can be written.
        forms: &'static str,
    },
    /// Nothing has that name.
    #[error("{side}: there is no {kinds} {name}{}", .nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// Which part.
        side: Side,
        /// What was looked for.
        kinds: &'static str,
        /// The name.
        name: String,
        /// The nearest that exists, as it would be written.
        nearest: Option<String>,
    },
    /// Two things have that name.
    #[error("{side} {name} is both a {} and a {}; write {}:{name} or {}:{name}", .kinds[0].1, .kinds[1].1, .kinds[0].0, .kinds[1].0)]
    Ambiguous {
        /// Which part.
        side: Side,
        /// The name.
        name: String,
        /// The prefix that says which, and what it stands for.
        kinds: [(&'static str, &'static str); 2],
    },
    /// The service does not listen there.
    #[error("service {service} has no port {port}{}", has(.ports))]
    NoPort {
        /// Namespace and name.
        service: String,
        /// What was asked for.
        port: u16,
        /// What it has.
        ports: Vec<u16>,
    },
}

fn has(ports: &[u16]) -> String {
    if ports.is_empty() {
        return "; it has none".into();
    }
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    format!("; it has {}", ports.join(", "))
}
