//! What the container runtime asks for: ADD, DEL, CHECK, STATUS, GC and VERSION.

use serde_json::json;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::CniError;
use super::network::{Network, VERSIONS, version_of};
use crate::enroll::{Answer, Reply, Request, call};

/// A pod that the controller has not named yet waits this long for it, because it may say otherwise than its
/// namespace does.
const NAMED_WITHIN: Duration = Duration::from_secs(2);
/// An agent that is about to be replaced, or that restarts, is asked again for this long.
const AGENT_WITHIN: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What the runtime says by environment variables.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    pub(super) command: String,
    pub(super) container: String,
    pub(super) netns: String,
    pub(super) args: String,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Self {
            command: variable("CNI_COMMAND"),
            container: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            args: variable("CNI_ARGS"),
        }
    }
}

/// The pod that a sandbox is for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pod {
    namespace: String,
    name: String,
    uid: String,
}

impl Pod {
    /// From `CNI_ARGS`; none when the sandbox is no pod's.
    fn parse(args: &str) -> Option<Self> {
        let mut pod = Self::default();
        for (key, value) in args.split(';').filter_map(|pair| pair.split_once('=')) {
            match key {
                "K8S_POD_NAMESPACE" => pod.namespace = value.into(),
                "K8S_POD_NAME" => pod.name = value.into(),
                "K8S_POD_UID" => pod.uid = value.into(),
                _ => {}
            }
        }
        (!pod.namespace.is_empty() && !pod.name.is_empty()).then_some(pod)
    }
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Does what the runtime asks; the text is for its standard output.
pub(super) fn run(environment: &Environment, config: &str) -> Result<String, CniError> {
    if environment.command == "VERSION" {
        let answer = json!({"cniVersion": version_of(config), "supportedVersions": VERSIONS});
        return Ok(answer.to_string());
    }
    let network = Network::parse(config)?;
    let pod = Pod::parse(&environment.args);
    match &*environment.command {
        "ADD" => {
            let result = chained(&network)?;
            if let Some(pod) = pod {
                add(environment, &network, pod)?;
            }
            Ok(result)
        }
        "CHECK" => {
            chained(&network)?;
            pod.map_or(Ok(()), |pod| check(&network, &pod))?;
            Ok(String::new())
        }
        "DEL" => {
            if let Some(pod) = pod {
                del(environment, &network, pod);
            }
            Ok(String::new())
        }
        // STATUS: pods outside the mesh can always be added, so the node is not held up for those inside it.
        // GC: the agent notices by itself when a network namespace is gone.
        "STATUS" | "GC" => Ok(String::new()),
        _ => Err(CniError::Environment("CNI_COMMAND")),
    }
}

/// The result of the plugins before, which this one passes on.
fn chained(network: &Network) -> Result<String, CniError> {
    match &network.prev_result {
        Some(result) => Ok(result.to_string()),
        None => Err(CniError::Configuration(
            "prevResult is missing: mesh-cni must come after the plugin that makes the network, in the list \
             \"plugins\""
                .into(),
        )),
    }
}

/// Whether the pod is in the mesh, as far as this node knows. Without any answer ever, nobody is: the node's
/// own pods must be able to start, and the agent captures the others as soon as it knows them.
fn is_in(network: &Network, pod: &Pod) -> Result<bool, CniError> {
    let answer = Answer::load(&network.state_dir).map_err(|e| CniError::Unknown(e.to_string()))?;
    let verdict = answer.map(|answer| answer.verdict(&pod.namespace, &pod.name, &pod.uid));
    Ok(verdict.is_some_and(crate::enroll::Verdict::is_in))
}

fn add(environment: &Environment, network: &Network, pod: Pod) -> Result<(), CniError> {
    if !is_in(network, &pod)? {
        return Ok(());
    }
    if environment.netns.is_empty() {
        return Err(CniError::Environment("CNI_NETNS"));
    }
    let full = pod.to_string();
    let mut request = Request::Join {
        namespace: pod.namespace,
        name: pod.name,
        uid: pod.uid,
        container: environment.container.clone(),
        netns: PathBuf::from(&environment.netns),
        last: false,
    };
    let began = Instant::now();
    loop {
        if let Request::Join { last, .. } = &mut request {
            *last = began.elapsed() >= NAMED_WITHIN;
        }
        match call(&network.run_dir, &request) {
            Ok(Reply::Joined(_)) => return Ok(()),
            Ok(Reply::NotYet) => {}
            Ok(other) => {
                let why = format!("the agent gave an answer of another version: {other:?}");
                return Err(CniError::NotCaptured(full, why));
            }
            Err(e) if began.elapsed() >= AGENT_WITHIN => {
                return Err(CniError::NotCaptured(full, format!("{e:#}")));
            }
            Err(_) => {}
        }
        sleep(ASK_EVERY);
    }
}

fn check(network: &Network, pod: &Pod) -> Result<(), CniError> {
    if !is_in(network, pod)? {
        return Ok(());
    }
    let listed = call(&network.run_dir, &Request::List);
    let Ok(Reply::Pods(pods)) = listed else {
        // An agent that is away changes nothing about who is captured.
        return Ok(());
    };
    let is_it = |other: &crate::enroll::Enrolled| {
        other.namespace == pod.namespace && other.name == pod.name
    };
    match pods.iter().any(is_it) {
        true => Ok(()),
        false => Err(CniError::Gone(pod.to_string())),
    }
}

/// Never fails: with the sandbox goes its network namespace, and with that everything that was captured.
fn del(environment: &Environment, network: &Network, pod: Pod) {
    let full = pod.to_string();
    let request = Request::Leave {
        namespace: pod.namespace,
        name: pod.name,
        container: environment.container.clone(),
    };
    if let Err(e) = call(&network.run_dir, &request) {
        eprintln!("mesh-cni: pod {full} leaves without the agent: {e:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enroll::KnownPod;

    const ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;\
                        K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1";

    struct Node {
        dir: tempfile::TempDir,
    }

    impl Node {
        /// A node whose agent is down, and said this before.
        fn new(answer: Option<&Answer>) -> Self {
            let dir = tempfile::tempdir().unwrap();
            if let Some(answer) = answer {
                answer.save(dir.path()).unwrap();
            }
            Self { dir }
        }

        fn run(&self, command: &str, args: &str) -> Result<String, CniError> {
            let environment = Environment {
                command: command.into(),
                container: "c1".into(),
                netns: "/proc/self/ns/net".into(),
                args: args.into(),
            };
            let dir = self.dir.path();
            let config = json!({
                "cniVersion": "1.0.0", "name": "net", "type": "mesh-cni", "runDir": dir, "stateDir": dir,
                "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/24"}], "future": {"x": [1]}},
            });
            run(&environment, &config.to_string())
        }
    }

    fn meshed(pods: Vec<KnownPod>) -> Answer {
        Answer {
            namespaces: ["shop".to_owned()].into(),
            pods,
        }
    }

    fn pod(enrolled: bool) -> KnownPod {
        KnownPod {
            uid: "u1".into(),
            namespace: "shop".into(),
            name: "web".into(),
            enrolled,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn without_an_agent_pods_of_the_mesh_do_not_start_and_others_do() {
        let passes = |answer: Option<&Answer>, args: &str| -> Result<(), CniError> {
            let result = Node::new(answer).run("ADD", args)?;
            let result: serde_json::Value = serde_json::from_str(&result).unwrap();
            assert_eq!(result["future"]["x"][0], 1, "the result is passed on whole");
            Ok(())
        };
        assert_eq!(passes(None, ARGS), Ok(()), "a node that was never told");
        let other = ARGS.replace("=shop", "=bank");
        assert_eq!(passes(Some(&meshed(vec![])), &other), Ok(()));
        assert_eq!(passes(Some(&meshed(vec![pod(false)])), ARGS), Ok(()));
        assert_eq!(passes(Some(&meshed(vec![])), "IgnoreUnknown=1"), Ok(()));
        for answer in [meshed(vec![]), meshed(vec![pod(true)])] {
            let refused = passes(Some(&answer), ARGS).unwrap_err();
            let text = refused.to_json("1.0.0");
            assert!(
                text.contains("shop/web") && text.contains("\"code\":11"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_damaged_answer_is_named_and_captures_nobody_by_guess() {
        let node = Node::new(None);
        std::fs::write(node.dir.path().join("enrolment.json"), "{").unwrap();
        let refused = node.run("ADD", ARGS).unwrap_err().to_string();
        assert!(refused.contains("enrolment.json"), "{refused}");
    }

    #[test]
    fn a_sandbox_can_always_be_deleted() {
        let node = Node::new(Some(&meshed(vec![pod(true)])));
        assert_eq!(node.run("DEL", ARGS), Ok(String::new()));
        assert_eq!(node.run("STATUS", ""), Ok(String::new()));
        assert_eq!(node.run("GC", ""), Ok(String::new()));
        assert_eq!(node.run("CHECK", ARGS), Ok(String::new()));
    }

    #[test]
    fn what_is_wrong_is_said_in_the_runtimes_terms() {
        let environment = |command: &str| Environment {
            command: command.into(),
            ..Environment::default()
        };
        let code = |command: &str, config: &str| {
            let refused = run(&environment(command), config).unwrap_err();
            let text: serde_json::Value =
                serde_json::from_str(&refused.to_json(&version_of(config))).unwrap();
            (text["code"].as_u64().unwrap(), text["msg"].to_string())
        };
        assert_eq!(code("ADD", "{").0, 6);
        assert_eq!(code("ADD", r#"{"cniVersion": "0.2.0"}"#).0, 1);
        assert_eq!(code("MOVE", r#"{"cniVersion": "1.1.0"}"#).0, 4);
        let (number, why) = code("ADD", r#"{"cniVersion": "1.1.0"}"#);
        assert!(number == 7 && why.contains("prevResult"), "{why}");
        let version = run(&environment("VERSION"), r#"{"cniVersion": "0.4.0"}"#).unwrap();
        assert!(version.contains(r#""cniVersion":"0.4.0""#) && version.contains("1.1.0"));
    }
}
