//! One agent or controller: where it is, and a connection to it.

use std::fmt;

use http::Method;
use mesh_common::admin::AgentStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::error::AskError;
use super::link::Link;
use super::pods::PodTarget;
use super::url::{Address, AgentUrl, ControllerUrl};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The agent of a node.
    Agent,
    /// A replica of the controller.
    Controller,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Controller => "controller",
        })
    }
}

/// Where one is.
pub(super) enum Target {
    Url(Role, Address),
    Pod(PodTarget),
}

impl Target {
    pub(super) fn agent_at(url: &AgentUrl) -> Self {
        Self::Url(Role::Agent, url.0.clone())
    }

    pub(super) fn controller_at(url: &ControllerUrl) -> Self {
        Self::Url(Role::Controller, url.0.clone())
    }

    pub(super) fn role(&self) -> Role {
        match self {
            Self::Url(role, _) => *role,
            Self::Pod(pod) => pod.role(),
        }
    }

    /// The node of an agent, or the pod of a controller, as far as it is known without asking.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Url(..) => None,
            Self::Pod(pod) => Some(pod.name()),
        }
    }

    pub(super) async fn connect(&self) -> Result<Peer, AskError> {
        match self {
            Self::Url(role, address) => {
                let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
                let stream = stream.map_err(AskError::Connect)?;
                let link = Link::new(stream, address.to_string(), None).await?;
                let mut peer = Peer {
                    name: address.to_string(),
                    link,
                };
                if *role == Role::Agent {
                    peer.name = peer.get::<AgentStatus>("/status").await?.node;
                }
                Ok(peer)
            }
            Self::Pod(pod) => Ok(Peer {
                name: pod.name().to_owned(),
                link: pod.forward().await?,
            }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_, address) => write!(f, "http://{address}"),
            Self::Pod(pod) => pod.fmt(f),
        }
    }
}

/// One that is reached.
pub struct Peer {
    /// The node of an agent; of a controller its pod, or its address.
    pub name: String,
    link: Link,
}

impl Peer {
    /// Asks for a page that is JSON.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, AskError> {
        let body = self.link.request(Method::GET, path, None).await?;
        parse(path, &body)
    }

    /// Hands in a value; what it answers.
    pub async fn put<B: Serialize, T: DeserializeOwned>(
        &mut self,
        path: &str,
        value: &B,
    ) -> Result<T, AskError> {
        let unreadable = |e: serde_json::Error| AskError::Content {
            path: path.to_owned(),
            reason: e.to_string(),
        };
        let body = serde_json::to_vec(value).map_err(unreadable)?;
        let body = self.link.request(Method::PUT, path, Some(body)).await?;
        parse(path, &body)
    }
}

fn parse<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, AskError> {
    serde_json::from_slice(body).map_err(|e| AskError::Content {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}
