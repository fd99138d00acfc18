//! HTTP/1.1 on one connection, whatever carries it.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::error::AskError;

/// How long the reason of a failure may come after the failure.
const REASON_COMES: Duration = Duration::from_millis(500);

/// Resolves when the carrier knows why it cannot carry.
pub(super) type Trouble = BoxFuture<'static, Option<String>>;

/// A connection to an admin endpoint; requests go one after the other.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    connection: AbortHandle,
    trouble: Option<Trouble>,
}

impl Link {
    pub(super) async fn new<S>(
        stream: S,
        host: String,
        trouble: Option<Trouble>,
    ) -> Result<Self, AskError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opened = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|e| broken("/", &e))?;
        // How it ends is seen by the request that it ends.
        let connection = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self {
            sender,
            host,
            connection,
            trouble,
        })
    }

    /// The body of the answer, whose status is 200.
    pub(super) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, AskError> {
        match self.exchange(method, path, body).await {
            Err(AskError::Broken { path, reason }) => Err(self.explained(path, reason).await),
            other => other,
        }
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, AskError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(body.unwrap_or_default()));
        let request = request.map_err(|e| AskError::Broken {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        let answer = self.sender.send_request(request).await;
        let answer = answer.map_err(|e| broken(path, &e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|e| broken(path, &e))?.to_bytes();
        match status.as_u16() {
            200 => Ok(body),
            404 if body.is_empty() => Err(AskError::NoEndpoint(path.to_owned())),
            status => Err(AskError::Refused {
                path: path.to_owned(),
                status,
                said: first_line(&body),
            }),
        }
    }

    /// The carrier knows better why the connection broke.
    async fn explained(&mut self, path: String, reason: String) -> AskError {
        if let Some(trouble) = self.trouble.take()
            && let Ok(Some(said)) = tokio::time::timeout(REASON_COMES, trouble).await
        {
            return AskError::Forward(said.trim().to_owned());
        }
        AskError::Broken { path, reason }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn broken(path: &str, error: &hyper::Error) -> AskError {
    let mut reason = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        reason = format!("{reason}: {source}");
    }
    AskError::Broken {
        path: path.to_owned(),
        reason,
    }
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.lines().next().unwrap_or_default().trim().to_owned()
}
