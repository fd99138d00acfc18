//! How agents and controllers are found and asked.
//!
//! Either every one is named by URL, or they are pods, found by kubeconfig and reached by port-forward
//! through the API server. All are asked at the same time, each within a deadline. One that does not
//! answer never hides what the others say: it is named, with the reason.

mod answers;
mod error;
mod kubeconfig;
mod link;
mod options;
mod peer;
mod pods;
mod url;

pub use answers::{Answers, Unreachable};
pub(in crate::meshctl) use error::innermost;
pub use error::{AskError, ReachError};
pub(in crate::meshctl) use kubeconfig::Cluster;
pub use options::ReachOptions;
pub use peer::{Peer, Role};

use futures::StreamExt as _;
use std::time::Duration;

use answers::Outcome;
use options::Way;
use peer::Target;

/// This many are asked at the same time.
const AT_ONCE: usize = 64;

/// The way to the mesh.
pub struct Reach {
    options: ReachOptions,
}

impl Reach {
    /// By these options. Nothing is read or dialled yet.
    pub fn new(options: ReachOptions) -> Self {
        Self { options }
    }

    /// Asks the agent of every node, or of those that `--node` names. `ask` may use the connection for
    /// several requests, which must all be done within `--timeout`.
    pub async fn agents<T>(
        &self,
        ask: impl AsyncFn(&mut Peer) -> Result<T, AskError>,
    ) -> Result<Answers<T>, ReachError> {
        let targets = match self.options.way() {
            Way::Urls => {
                let urls = &self.options.node_url;
                if urls.is_empty() {
                    return Err(ReachError::NoNodeUrl);
                }
                urls.iter().map(Target::agent_at).collect()
            }
            Way::Cluster => self.cluster().await?.pods(Role::Agent).await?,
        };
        let answers = self.ask_all(&targets, &self.options.node, ask).await;
        answers.named(&self.options.node)
    }

    /// Asks every controller. None are known when agents are named by URL and the controller is not.
    pub async fn controllers<T>(
        &self,
        ask: impl AsyncFn(&mut Peer) -> Result<T, AskError>,
    ) -> Result<Answers<T>, ReachError> {
        let targets: Vec<_> = match self.options.way() {
            Way::Urls => {
                let urls = self.options.controller_url.iter();
                urls.map(Target::controller_at).collect()
            }
            Way::Cluster => self.cluster().await?.pods(Role::Controller).await?,
        };
        Ok(self.ask_all(&targets, &[], ask).await)
    }

    /// The namespace of the kubeconfig's context, when that is the way and it names one.
    pub fn default_namespace(&self) -> Option<String> {
        match self.options.way() {
            Way::Urls => None,
            Way::Cluster => kubeconfig::namespace(&self.options),
        }
    }

    /// The same way, with another limit for each agent and controller.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        let options = self.options.clone();
        Self::new(ReachOptions { timeout, ..options })
    }

    /// The namespace that agents and controllers are in.
    pub fn mesh_namespace(&self) -> &str {
        &self.options.mesh_namespace
    }

    /// The API server, for what is done there and not by agents.
    pub(in crate::meshctl) async fn api_server(&self) -> Result<Cluster, ReachError> {
        match self.options.way() {
            Way::Urls => Err(ReachError::NotByUrl),
            Way::Cluster => self.cluster().await,
        }
    }

    async fn cluster(&self) -> Result<Cluster, ReachError> {
        kubeconfig::connect(&self.options).await
    }

    /// In the order of the targets.
    async fn ask_all<T>(
        &self,
        targets: &[Target],
        wanted: &[String],
        ask: impl AsyncFn(&mut Peer) -> Result<T, AskError>,
    ) -> Answers<T> {
        let ask = &ask;
        let outcomes = targets.iter().map(async |target| {
            let whole = one(target, wanted, ask);
            let outcome = within(self.options.timeout, whole).await;
            (target, outcome)
        });
        let mut outcomes = futures::stream::iter(outcomes).buffered(AT_ONCE);
        let mut answers = Answers::default();
        while let Some((target, outcome)) = outcomes.next().await {
            answers.add(target, outcome);
        }
        answers
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    let timed = tokio::time::timeout(limit, work).await;
    timed.unwrap_or(Err(AskError::Timeout(limit)))
}

async fn one<T>(
    target: &Target,
    wanted: &[String],
    ask: &impl AsyncFn(&mut Peer) -> Result<T, AskError>,
) -> Result<Outcome<T>, AskError> {
    if let Some(name) = target.name().filter(|name| !is_wanted(wanted, name)) {
        return Ok(Outcome::NotAsked(name.to_owned()));
    }
    let mut peer = target.connect().await?;
    if !is_wanted(wanted, &peer.name) {
        return Ok(Outcome::NotAsked(peer.name));
    }
    let answer = ask(&mut peer).await?;
    Ok(Outcome::Answer(peer.name, answer))
}

fn is_wanted(wanted: &[String], name: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|w| w == name)
}
