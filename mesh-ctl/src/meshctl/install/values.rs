//! What can be chosen: the values of the Helm chart, as options.

use clap::ValueEnum;
use mesh_common::identity::TrustDomain;

/// What to install. An option that is left out means its default, also where Weft is installed already.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What to install")]
pub struct Values {
    /// Where the images are: REPOSITORY/mesh-node and REPOSITORY/mesh-controller
    #[arg(long, value_name = "REPOSITORY", default_value = "localhost/weft", value_parser = repository)]
    pub image_repository: String,
    /// Tag of the images
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"), value_parser = tag)]
    pub image_tag: String,
    /// When nodes pull the images
    #[arg(
        long,
        value_name = "POLICY",
        value_enum,
        default_value = "IfNotPresent"
    )]
    pub image_pull_policy: PullPolicy,
    /// Trust domain of every identity; changing it later takes every certificate with it
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = trust_domain)]
    pub trust_domain: TrustDomain,
    /// Name of the cluster
    #[arg(long, value_name = "NAME", default_value = "Kubernetes", value_parser = cluster_id)]
    pub cluster_id: String,
    /// Namespace whose policies are for the whole mesh; without it --mesh-namespace
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    pub root_namespace: Option<String>,
    /// How many controllers run
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(i32).range(1..))]
    pub controller_replicas: i32,
    /// Of how many the controllers are kept when nodes are drained; without it one, and none of one
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(0..))]
    pub controller_min_available: Option<i32>,
    /// How pods of one node reach each other; `direct` is faster and not encrypted (docs/operating.md)
    #[arg(long, value_name = "MODE", value_enum, default_value = "tunnel")]
    pub same_node: SameNode,
    /// PodMonitors too, for the Prometheus operator
    #[arg(long)]
    pub pod_monitors: bool,
}

impl Values {
    /// How many controllers stay when nodes are drained.
    pub(super) fn min_available(&self) -> i32 {
        // A budget that keeps the only one would hold up every drain.
        let usual = 1.min(self.controller_replicas - 1);
        self.controller_min_available.unwrap_or(usual)
    }
}

/// When an image is pulled, in Kubernetes' own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When the node has it not.
    IfNotPresent,
    /// Never: the node has it.
    Never,
}

/// How pods of one node reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SameNode {
    /// Through the agent.
    Tunnel,
    /// By themselves.
    Direct,
}

/// As the command line has it.
pub(super) fn word(value: &impl ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |possible| possible.get_name().to_owned())
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    let parsed: Result<TrustDomain, _> = text.parse();
    parsed
        .map_err(|_| "a trust domain is of a-z, 0-9, `.`, `-` and `_`, such as example.org".into())
}

fn cluster_id(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let result = good.then(|| text.to_owned());
    result.ok_or_else(|| "it is empty, or has blanks".into())
}

/// A name that a namespace may have.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    let good = (1..=63).contains(&text.len()) && text.bytes().all(allowed) && edges;
    let result = good.then(|| text.to_owned());
    result.ok_or_else(|| "a namespace is of a-z, 0-9 and `-`, at most 63".into())
}

fn repository(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:[]".contains(&b);
    let edges = !text.starts_with('/') && !text.ends_with('/');
    let last = text.rsplit('/').next().unwrap_or_default();
    // After the last slash a colon would begin a tag; a host alone may have a port.
    let tagged = text.contains('/') && last.contains(':');
    if text.is_empty() || !text.bytes().all(allowed) || !edges {
        return Err("it is no repository, such as registry.example.org/weft".into());
    }
    if tagged {
        return Err("the tag has an option of its own, --image-tag".into());
    }
    Ok(text.to_owned())
}

fn tag(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let good = (1..=128).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-']);
    let result = good.then(|| text.to_owned());
    result.ok_or_else(|| "a tag is of letters, digits, `.`, `-` and `_`, at most 128".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_or_nodes_could_not_use_is_refused() {
        for (parse, good, bad) in [
            (
                repository as fn(&str) -> Result<String, String>,
                &["weft", "localhost:5000", "r.example.org:5000/a/weft"][..],
                &["", "/weft", "weft/", "a b", "r.example.org/weft:1"][..],
            ),
            (
                tag,
                &["0.1.0", "v1_2-x", "latest"],
                &["", ".1", "-1", "a:b", "a b"],
            ),
            (
                namespace,
                &["a", "istio-system"],
                &["", "-a", "a-", "A", "a.b"],
            ),
            (cluster_id, &["Kubernetes", "c/1"], &["", "a b", "a\nb"]),
        ] {
            for text in good {
                assert_eq!(parse(text).as_deref(), Ok(*text));
            }
            for text in bad {
                assert!(parse(text).is_err(), "{text:?}");
            }
        }
        assert!(trust_domain("example.org").is_ok());
        assert!(trust_domain("Example.org").is_err());
    }
}
