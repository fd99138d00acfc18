//! Lists and watches, read as they arrive. An object's text is borrowed from the buffer that it came
//! in, never copied.

use std::borrow::Cow;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::Client;
use kube::api::{ListParams, Request, WatchParams};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};

use super::resource::Resource;

/// Objects of one answer: what bounds the memory that a list takes.
const PAGE: u32 = 500;
/// The server answers a page, or begins to answer a watch, within this.
pub(super) const ANSWER: Duration = Duration::from_secs(60);
/// The server ends a watch after a time from this range, in seconds: not all of them at once.
const WATCH_SECONDS: std::ops::Range<u32> = 240..300;
/// It is late with that: the connection is dead.
const LATE: Duration = Duration::from_secs(20);

/// Why a list or a watch did not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server does not know the kind.
    #[error("the API server does not serve it")]
    NotServed,
    /// The server no longer knows that version.
    #[error("the API server no longer has the version to resume from")]
    Gone,
    /// The server refused.
    #[error("the API server answered {code}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("the connection to the API server failed: {0}")]
    Disconnected(String),
    /// The server fell silent.
    #[error("the API server does not answer")]
    Silent,
    /// The server said something that is not an object.
    #[error("the API server's answer is not understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
}

impl Failure {
    /// For metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotServed => "not_served",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
            Self::Disconnected(_) => "disconnected",
            Self::Silent => "silent",
            Self::NotUnderstood(_) => "not_understood",
        }
    }

    fn of_status(code: u16, message: String) -> Self {
        match code {
            404 => Self::NotServed,
            410 => Self::Gone,
            code => Self::Refused { code, message },
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let message = status.message.clone();
                Self::of_status(status.code, message)
            }
            other => Self::Disconnected(chain(&other)),
        }
    }
}

/// The whole chain of causes: the outermost error alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            text += &format!(": {line}");
        }
        cause = error.source();
    }
    text
}

/// One page of a list, as text.
pub(super) struct Page(String);

/// A page, parsed as far as its objects.
#[derive(Deserialize)]
pub(super) struct Items<'a> {
    #[serde(rename = "metadata")]
    pub(super) list: ListMetadata,
    #[serde(borrow)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

impl Page {
    pub(super) fn parse(&self) -> Result<Items<'_>, Failure> {
        Ok(serde_json::from_str(&self.0)?)
    }
}

/// The page after `next`, or the first. The server answers from its store, not from a cache that may be old.
pub(super) async fn list(
    client: &Client,
    path: &str,
    resource: &Resource,
    next: Option<&str>,
) -> Result<Page, Failure> {
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector = resource.selector.map(str::to_owned);
    params.continue_token = next.map(str::to_owned);
    let request = Request::new(path).list(&params);
    let request = request.map_err(|e| Failure::Disconnected(e.to_string()))?;
    let answer = timeout(ANSWER, client.request_text(request)).await;
    Ok(Page(answer.map_err(|_| Failure::Silent)??))
}

/// Whether the server says that it is ready. One that just started may not know its CRDs yet.
pub(super) async fn is_ready(client: &Client) -> Result<(), Failure> {
    let request = http::Request::get("/readyz").body(Vec::new());
    let request = request.map_err(|e| Failure::Disconnected(e.to_string()))?;
    let answer = timeout(ANSWER, client.request_text(request)).await;
    answer.map_err(|_| Failure::Silent)??;
    Ok(())
}

/// An open watch.
pub(super) struct Watch<R> {
    lines: R,
    buffer: Vec<u8>,
    deadline: Instant,
}

/// What a watch told.
pub(super) enum Event<'a> {
    /// The object is there now, like this.
    Set(&'a str),
    /// The object is gone; this is how it was.
    Removed(&'a str),
    /// Nothing but the version that has been reached.
    Bookmark(&'a str),
}

/// Opens a watch for what changed after `version`.
pub(super) async fn watch(
    client: &Client,
    path: &str,
    resource: &Resource,
    version: &str,
) -> Result<Watch<impl AsyncBufRead + Unpin + use<>>, Failure> {
    let seconds = rand::random_range(WATCH_SECONDS);
    let mut params = WatchParams::default().timeout(seconds);
    params.label_selector = resource.selector.map(str::to_owned);
    let request = Request::new(path).watch(&params, version);
    let request = request.map_err(|e| Failure::Disconnected(e.to_string()))?;
    let deadline = Instant::now() + Duration::from_secs(seconds.into()) + LATE;
    let answer = timeout(ANSWER, client.request_stream(request)).await;
    Ok(Watch {
        lines: Box::pin(answer.map_err(|_| Failure::Silent)??),
        buffer: Vec::new(),
        deadline,
    })
}

impl<R: AsyncBufRead + Unpin> Watch<R> {
    /// The next event; `None` when the server ended the watch as agreed.
    pub(super) async fn next(&mut self) -> Result<Option<Event<'_>>, Failure> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            code: u16,
            #[serde(default)]
            message: String,
        }
        self.buffer.clear();
        let read = self.lines.read_until(b'\n', &mut self.buffer);
        let read = timeout_at(self.deadline, read).await;
        let read = read.map_err(|_| Failure::Silent)?;
        read.map_err(|e| Failure::Disconnected(chain(&e)))?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if !self.buffer.ends_with(b"\n") {
            return Err(Failure::Disconnected("it ended within an object".into()));
        }
        let line: Line<'_> = serde_json::from_slice(&self.buffer)?;
        let object = line.object.get();
        match &*line.kind {
            "ADDED" | "MODIFIED" => Ok(Some(Event::Set(object))),
            "DELETED" => Ok(Some(Event::Removed(object))),
            "BOOKMARK" => Ok(Some(Event::Bookmark(object))),
            _ => {
                let status: Status = serde_json::from_str(object)?;
                Err(Failure::of_status(status.code, status.message))
            }
        }
    }
}
