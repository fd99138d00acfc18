//! A mesh with something to see, and `meshctl` on one of its nodes.

use anyhow::Result;
use lab::mesh::{Mesh, PodSpec};
use lab::peer::{Client, Server};
use lab::shell::Output;
use lab::{programs, wait};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
/// What the client sends, and gets back.
const BYTES: u64 = 5000;

/// Two nodes: `shop/client` on the first talks to `shop/server` on the second, through a service.
pub(crate) struct World {
    _client: Client,
    _server: Server,
    pub(crate) mesh: Mesh,
}

impl World {
    /// With one connection that is open.
    pub(crate) fn new() -> Result<Self> {
        let mut mesh = Mesh::with_options(2, None, &[("admin-addr", "0.0.0.0:15000")])?;
        mesh.config.namespace("shop", true)?;
        mesh.config.namespace("bank", false)?;
        mesh.config.peer_authentication("shop", "STRICT")?;
        let client = mesh.add_enrolled(&PodSpec::named(1, "shop", "client"))?;
        let server = mesh.add_enrolled(&PodSpec::named(2, "shop", "server"))?;
        mesh.add_pod(&PodSpec::named(2, "bank", "vault"))?;
        mesh.add_service("shop", "echo", "server", &[VIP], 7001)?;
        let from = |name: &str| {
            format!(
                "rules:\n- from:\n  - source: {{principals: [cluster.local/ns/shop/sa/{name}]}}\n"
            )
        };
        mesh.add_policy(
            "shop",
            "only-client",
            &format!("action: ALLOW\n{}", from("client")),
        )?;
        mesh.config.policy_with(
            "shop",
            "on-trial",
            &[("istio.io/dry-run", "true")],
            &format!("action: DENY\n{}", from("client")),
        )?;
        mesh.agents
            .iter()
            .try_for_each(|agent| agent.wait_for("on-trial", true))?;
        let echo = Server::start(&server, server.v4.into(), 7001, &["echo"])?;
        let bytes = BYTES.to_string();
        let talk = Client::start(&client, SocketAddr::new(VIP, 7001), &["watch", &bytes])?;
        let world = Self {
            _client: talk,
            _server: echo,
            mesh,
        };
        world.wait_for_the_connection()?;
        Ok(world)
    }

    /// Runs `meshctl` on the first node; it knows all agents and the controller.
    pub(crate) fn meshctl(&self, arguments: &[&str]) -> Result<Output> {
        let binary = programs::binary("meshctl")?.to_string_lossy().into_owned();
        let nodes = self.mesh.lab.nodes().iter();
        let urls: Vec<_> = nodes
            .map(|node| format!("http://{}:15000", node.v4))
            .collect();
        let urls = format!("MESHCTL_NODE_URLS={}", urls.join(","));
        let controller = "MESHCTL_CONTROLLER_URLS=http://127.0.0.1:15014";
        let argv = [&["env", &*urls, controller, &*binary], arguments].concat();
        self.mesh.lab.node(1)?.host.run(&argv, LIMIT)
    }

    /// Until both ends have counted every byte, and the agents are known to be in sync.
    fn wait_for_the_connection(&self) -> Result<()> {
        wait::until_true("both ends of the connection", wait::DEADLINE, || {
            let output = self.meshctl(&["connections", "-o", "json"])?;
            let list: Value = serde_json::from_str(&output.stdout)?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let complete =
                |item: &&Value| item["bytesFromClient"] == BYTES && item["bytesToClient"] == BYTES;
            Ok(items.iter().filter(complete).count() == 2)
        })?;
        wait::until_true("the agents to be in sync", wait::DEADLINE, || {
            let output = self.meshctl(&["status", "-o", "json"])?;
            let status: Value = serde_json::from_str(&output.stdout)?;
            let agents = status["agents"].as_array().cloned().unwrap_or_default();
            let synced = agents.iter().filter(|agent| agent["sync"] == "synced");
            Ok(synced.count() == 2)
        })
    }
}
