//! The whole mesh in one lab: a controller, an agent on each node, and pods that come and go.

use crate::agent::{Agent, Sabotage};
use crate::config::Config;
use crate::controller::Controller;
use crate::keeper;
use crate::tokens::Issuer;
use crate::topology::{Lab, Node, Pod};
use anyhow::{Context as _, Result};
use std::net::IpAddr;

/// A pod to be added.
#[derive(Clone, Copy, Debug)]
pub struct PodSpec<'a> {
    /// The number of its node, from 1.
    pub node: u8,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its service account.
    pub account: &'a str,
    /// Its label `app`.
    pub app: &'a str,
    /// Further labels.
    pub labels: &'a [(&'a str, &'a str)],
}

impl<'a> PodSpec<'a> {
    /// A pod whose service account and label `app` are its name.
    pub const fn named(node: u8, namespace: &'a str, name: &'a str) -> Self {
        Self {
            node,
            namespace,
            name,
            account: name,
            app: name,
            labels: &[],
        }
    }
}

/// A lab with the mesh in it. What is declared first is dropped first: the lab, which ends every
/// process, goes last.
pub struct Mesh {
    /// The agents, one for each node that has one.
    pub agents: Vec<Agent>,
    /// The controller.
    pub controller: Controller,
    /// What the controller reads.
    pub config: Config,
    /// The issuer of the agents' tokens.
    pub issuer: Issuer,
    /// The nodes and pods.
    pub lab: Lab,
}

impl Mesh {
    /// Starts a controller and one agent a node.
    pub fn start(nodes: u8, sabotage: Option<Sabotage>) -> Result<Self> {
        Self::with_options(nodes, sabotage, &[])
    }

    /// Starts a controller and one agent a node, the agents with `further` options.
    pub fn with_options(
        nodes: u8,
        sabotage: Option<Sabotage>,
        further: &[(&str, &str)],
    ) -> Result<Self> {
        Self::build(nodes, sabotage, further, false, |_| Ok(()))
    }

    /// Starts a controller and one agent a node, with `further` options, after `prepare` on the node.
    pub fn prepare(
        nodes: u8,
        further: &[(&str, &str)],
        prepare: impl Fn(&Node) -> Result<()>,
    ) -> Result<Self> {
        Self::build(nodes, None, further, false, prepare)
    }

    /// Starts a controller, and on each node a keeper and an agent.
    pub fn start_with_keepers(nodes: u8) -> Result<Self> {
        Self::build(nodes, None, &[], true, |_| Ok(()))
    }

    fn build(
        nodes: u8,
        sabotage: Option<Sabotage>,
        further: &[(&str, &str)],
        keepers: bool,
        prepare: impl Fn(&Node) -> Result<()>,
    ) -> Result<Self> {
        let lab = Lab::new(nodes)?;
        let config = Config::new(lab.dir())?;
        config.namespace("weft-system", false)?;
        config.service_account("weft-system", "weft-node")?;
        for node in lab.nodes() {
            config.node(node)?;
        }
        let issuer = Issuer::new("https://lab.weft.example")?;
        let controller = Controller::start(&lab, &config, &issuer)?;
        let mut agents = Vec::new();
        for node in lab.nodes() {
            prepare(node)?;
            let keeper = match keepers {
                true => Some(keeper::start(node)?),
                false => None,
            };
            let keeper = keeper.iter().map(|socket| ("keeper", &**socket));
            let options: Vec<_> = further.iter().copied().chain(keeper).collect();
            let agent = Agent::start(&lab, node, &controller, &issuer, sabotage, &options)?;
            agents.push(agent);
        }
        Ok(Self {
            agents,
            controller,
            config,
            issuer,
            lab,
        })
    }

    /// A mesh of two nodes with `shop/client` on the first and `shop/server` on the second, STRICT.
    pub fn pair() -> Result<(Self, Pod, Pod)> {
        Self::pair_with(&[])
    }

    /// The same with `further` options of the agents.
    pub fn pair_with(further: &[(&str, &str)]) -> Result<(Self, Pod, Pod)> {
        let mut mesh = Self::with_options(2, None, further)?;
        let (client, server) = mesh.add_pair()?;
        Ok((mesh, client, server))
    }

    /// Adds `shop/client` to the first node and `shop/server` to the second, STRICT.
    pub fn add_pair(&mut self) -> Result<(Pod, Pod)> {
        self.config.namespace("shop", true)?;
        self.config.peer_authentication("shop", "STRICT")?;
        let client = self.add_enrolled(&PodSpec::named(1, "shop", "client"))?;
        let server = self.add_enrolled(&PodSpec::named(2, "shop", "server"))?;
        Ok((client, server))
    }

    /// The agent of this node.
    pub fn agent(&self, node: u8) -> Result<&Agent> {
        let mut agents = self.agents.iter();
        let found = agents.find(|agent| agent.node().number == node);
        found.with_context(|| format!("no agent runs on node {node}"))
    }

    /// The agent of this node, to be killed or restarted.
    pub fn agent_mut(&mut self, node: u8) -> Result<&mut Agent> {
        let mut agents = self.agents.iter_mut();
        let found = agents.find(|agent| agent.node().number == node);
        found.with_context(|| format!("no agent runs on node {node}"))
    }

    /// Adds a pod and tells the controller; every agent knows it when this returns.
    pub fn add_pod(&mut self, spec: &PodSpec<'_>) -> Result<Pod> {
        let pod = self.lab.add_pod(spec.node, spec.namespace, spec.name)?;
        self.config.service_account(spec.namespace, spec.account)?;
        self.describe(&pod, spec)?;
        for agent in &self.agents {
            agent.wait_for(&pod.v4.to_string(), true)?;
        }
        Ok(pod)
    }

    /// Adds a pod and puts it into the mesh.
    pub fn add_enrolled(&mut self, spec: &PodSpec<'_>) -> Result<Pod> {
        let pod = self.add_pod(spec)?;
        self.agent(pod.node)?.enroll(&pod)?;
        Ok(pod)
    }

    /// Tells the controller about a pod, again or anew.
    pub fn describe(&self, pod: &Pod, spec: &PodSpec<'_>) -> Result<()> {
        self.config.pod(self.lab.node(pod.node)?, pod, spec)
    }

    /// Adds a service in front of the pods with the label `app`; every agent knows it when this returns.
    pub fn add_service(
        &self,
        namespace: &str,
        name: &str,
        app: &str,
        vips: &[IpAddr],
        port: u16,
    ) -> Result<()> {
        self.config.service(namespace, name, app, vips, port)?;
        for vip in vips {
            self.agents
                .iter()
                .try_for_each(|agent| agent.wait_for(&vip.to_string(), true))?;
        }
        Ok(())
    }

    /// Writes an `AuthorizationPolicy` and waits until every agent has it. A change of a policy needs
    /// a new name: that is how its arrival is seen.
    pub fn add_policy(&self, namespace: &str, name: &str, spec: &str) -> Result<()> {
        self.config.policy(namespace, name, spec)?;
        self.agents
            .iter()
            .try_for_each(|agent| agent.wait_for(name, true))
    }

    /// Removes an `AuthorizationPolicy` and waits until no agent has it.
    pub fn remove_policy(&self, namespace: &str, name: &str) -> Result<()> {
        self.config.remove_policy(namespace, name)?;
        self.agents
            .iter()
            .try_for_each(|agent| agent.wait_for(name, false))
    }
}
