//! An agent's answer. Every agent holds the state of the whole mesh: those that say something else than the
//! first are behind, or ahead.

use http::StatusCode;
use mesh_common::question::{Answer, Question};

use crate::meshctl::CliError;
use crate::meshctl::reach::{AskError, Reach};

/// The answer, and the node whose agent gave it.
pub(super) async fn ask(reach: &Reach, question: &Question) -> Result<(String, Answer), CliError> {
    let path = format!(
        "/policy/explain?from={}&to={}&port={}",
        escape(&question.from),
        escape(&question.to),
        question.port
    );
    let answers = reach
        .agents(async |peer| match peer.get::<Answer>(&path).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(AskError::Refused { status, said, .. }) => match refused(status, said) {
                Some(refused) => Ok(Err(refused)),
                None => Err(AskError::Pod(format!("it answered {status}"))),
            },
            Err(error) => Err(error),
        })
        .await?
        .some()?;
    answers.warn();
    let mut answers = answers.of.into_iter();
    let Some((node, first)) = answers.next() else {
        return Err(CliError::Failed(
            "no agent was asked: there is none; check --node and --mesh-namespace".into(),
        ));
    };
    let others = answers.filter(|(_, other)| !agree(&first, other));
    let others: Vec<_> = others.map(|(node, _)| node).collect();
    if !others.is_empty() {
        eprintln!(
            "warning: the answer is that of node {node}; {} answered otherwise, because their state is \
             another: see meshctl status, and ask one of them with --node",
            others.join(", ")
        );
    }
    match first {
        Ok(answer) => Ok((node, answer)),
        Err(refused) => Err(refused.into()),
    }
}

/// The agent knows no such name, or does not understand the question.
#[derive(PartialEq)]
enum Refused {
    NotFound(String),
    Usage(String),
}

fn refused(status: u16, said: String) -> Option<Refused> {
    match StatusCode::from_u16(status) {
        Ok(StatusCode::NOT_FOUND) => Some(Refused::NotFound(said)),
        Ok(StatusCode::BAD_REQUEST) => Some(Refused::Usage(said)),
        _ => None,
    }
}

impl From<Refused> for CliError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotFound(said) => Self::NotFound(said),
            Refused::Usage(said) => Self::Usage(said),
        }
    }
}

fn agree(a: &Result<Answer, Refused>, b: &Result<Answer, Refused>) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => a.outcome == b.outcome && a.cases == b.cases,
        (Err(a), Err(b)) => a == b,
        _ => false,
    }
}

/// For a query: everything but letters, digits and `-._/:` as `%XX`.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/:".contains(&b);
    let one = |b: u8| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}
