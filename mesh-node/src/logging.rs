//! What the agent logs to stderr, and how that is changed while it runs.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

const DEFAULT: &str = "info";

/// A filter that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadFilter {
    /// It says nothing.
    #[error("the filter is empty; write a level, such as info")]
    Empty,
    /// A word alone is a level, or a mistake: as the name of a module it would silence all others.
    #[error(
        "{0:?} in the filter is no level (error, warn, info, debug, trace, off); to log a module, \
         write MODULE=LEVEL"
    )]
    Level(String),
    /// It is not of the form that filters have.
    #[error("the filter {0:?} is malformed: {1}; write LEVEL or MODULE=LEVEL, separated by commas")]
    Malformed(String, String),
    /// The log is gone, because the agent ends.
    #[error("the filter cannot be changed: {0}")]
    Gone(String),
}

/// The filter of the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Mutex<String>,
}

impl Logs {
    /// Starts to log what the environment variable `RUST_LOG` says, or else what is at least of level `info`.
    #[must_use]
    pub fn start() -> Self {
        let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
        let parsed = parse(&asked);
        let wrong = parsed.as_ref().err().map(ToString::to_string);
        let (text, filter) = match parsed {
            Ok(filter) => (asked.clone(), filter),
            Err(_) => (DEFAULT.to_owned(), EnvFilter::new(DEFAULT)),
        };
        let (filter, handle) = reload::Layer::new(filter);
        let lines = fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        if let Some(wrong) = wrong.filter(|_| !asked.is_empty()) {
            tracing::warn!("{} is not used: {wrong}", EnvFilter::DEFAULT_ENV);
        }
        Self(Arc::new(Shared {
            handle,
            filter: Mutex::new(text),
        }))
    }

    /// The filter in force.
    #[must_use]
    pub fn filter(&self) -> String {
        let filter = self.0.filter.lock();
        filter.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// [`BadFilter`]; the one in force stays.
    pub fn set(&self, text: &str) -> Result<(), BadFilter> {
        let parsed = parse(text)?;
        // Held until both are changed, so that two callers leave one of their filters, not half of each.
        let mut filter = self.0.filter.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = self.0.handle.reload(parsed);
        reloaded.map_err(|e| BadFilter::Gone(e.to_string()))?;
        text.clone_into(&mut filter);
        tracing::info!("the log's filter is {text:?} from now on");
        Ok(())
    }
}

fn parse(text: &str) -> Result<EnvFilter, BadFilter> {
    let directives: Vec<_> = text
        .split(',')
        .map(str::trim)
        .filter(|d| !d.is_empty())
        .collect();
    if directives.is_empty() {
        return Err(BadFilter::Empty);
    }
    let is_word = |d: &str| {
        d.chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == ':')
    };
    let is_mistake = |d: &&&str| is_word(d) && d.parse::<LevelFilter>().is_err();
    if let Some(word) = directives.iter().find(is_mistake) {
        return Err(BadFilter::Level((*word).to_owned()));
    }
    let parsed = EnvFilter::builder().parse(directives.join(","));
    parsed.map_err(|e| BadFilter::Malformed(text.to_owned(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_or_said_to_be_wrong() {
        for good in [
            "info",
            "off",
            " info , mesh_node::hbone=debug ",
            "warn,h2=off",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert_eq!(parse("").unwrap_err(), BadFilter::Empty);
        assert_eq!(parse(" , ").unwrap_err(), BadFilter::Empty);
        for word in ["debg", "mesh_node::hbone"] {
            let text = format!("info,{word}");
            assert_eq!(parse(&text).unwrap_err(), BadFilter::Level(word.into()));
        }
        let error = parse("info,mesh_node=loud").unwrap_err();
        assert!(matches!(error, BadFilter::Malformed(..)), "{error}");
    }
}
