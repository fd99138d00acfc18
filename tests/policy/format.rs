//! The table of cases in `cases.yaml`, for every test that runs it: how it is read, and what a set of policies
//! must answer to be right.

use mesh_common::identity::SpiffeId;
use mesh_common::policy::{Connection, PolicySet, Reports, Verdict, decide, explain, report};
use serde::Deserialize;
use serde_norway::Value;
use std::net::{IpAddr, SocketAddr};

/// The mesh's trust domain, its alias, and the namespace whose policies are for the whole mesh.
pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
pub(crate) const ALIAS: &str = "old.example";
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// The pods: namespace, name and addresses. Both have the label `app=server`.
pub(crate) const PODS: [(&str, &str, &[&str]); 2] = [
    ("shop", "server", &["10.0.0.10", "fd00::10"]),
    ("ops", "server", &["10.0.0.20"]),
];

#[derive(Deserialize)]
struct File {
    tables: Vec<Table>,
}

/// Policies, and what they must say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) policies: Vec<Object>,
    pub(crate) cases: Vec<Case>,
}

/// One policy.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Object {
    #[serde(default = "authorization_policy")]
    pub(crate) kind: String,
    #[serde(default = "shop")]
    pub(crate) namespace: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    pub(crate) spec: Value,
}

/// One connection, and what must be said of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Case {
    rule: String,
    from: Option<String>,
    #[serde(default = "client")]
    ip: IpAddr,
    #[serde(default = "server")]
    to: String,
    address: Option<IpAddr>,
    #[serde(default = "port")]
    port: u16,
    verdict: String,
    by: Option<String>,
    #[serde(default)]
    audit: Vec<String>,
    dry_run: Option<String>,
    nearest: Option<String>,
    failed: Option<Vec<String>>,
}

fn authorization_policy() -> String {
    "AuthorizationPolicy".into()
}

fn shop() -> String {
    "shop".into()
}

fn client() -> IpAddr {
    [10, 1, 0, 1].into()
}

fn server() -> String {
    "shop/server".into()
}

fn port() -> u16 {
    8080
}

/// All tables; there are never fewer cases than the table is meant to have.
pub(crate) fn load() -> Vec<Table> {
    let file: File = serde_norway::from_str(include_str!("cases.yaml")).expect("a table");
    let cases: usize = file.tables.iter().map(|table| table.cases.len()).sum();
    assert!(cases >= 150, "{cases} cases are too few");
    file.tables
}

impl Case {
    /// Namespace and name of the pod that is dialled.
    pub(crate) fn destination(&self) -> (&str, &str) {
        self.to.split_once('/').expect("NAMESPACE/POD")
    }

    fn principal(&self) -> Option<SpiffeId> {
        let from = self.from.as_deref()?;
        let path = match from.split('/').collect::<Vec<_>>()[..] {
            [namespace, account] => format!("{TRUST_DOMAIN}/ns/{namespace}/sa/{account}"),
            _ => from.to_owned(),
        };
        Some(format!("spiffe://{path}").parse().expect("a SPIFFE ID"))
    }

    /// Source, destination and principal of the connection.
    pub(crate) fn connection(&self) -> (SocketAddr, SocketAddr, Option<SpiffeId>) {
        let pod = PODS
            .iter()
            .find(|pod| (pod.0, pod.1) == self.destination())
            .expect("a pod");
        let address = self
            .address
            .unwrap_or_else(|| pod.2[0].parse().expect("an address"));
        (
            SocketAddr::new(self.ip, 40_000),
            SocketAddr::new(address, self.port),
            self.principal(),
        )
    }

    fn expect(&self, what: &str, expected: &str, found: &str) -> Result<(), String> {
        match expected == found {
            true => Ok(()),
            false => Err(format!(
                "{:?}: from {:?} at {} to {} port {}: {what} is {found:?}, the table says {expected:?}",
                self.rule, self.from, self.ip, self.to, self.port
            )),
        }
    }

    /// Compares a decision with what the table says. The error names the rule that is broken.
    pub(crate) fn check_decided(&self, verdict: &Verdict, reports: &Reports) -> Result<(), String> {
        let by = self.by.iter().map(|by| format!(" {by}"));
        let expected = by.fold(self.verdict.clone(), |text, by| text + &by);
        self.expect("the verdict", &expected, &short(verdict))?;
        let audit: Vec<_> = reports
            .audit
            .iter()
            .map(|hit| format!("{} {}", hit.policy, hit.rule))
            .collect();
        self.expect("what is audited", &self.audit.join(", "), &audit.join(", "))?;
        let dry_run = reports.dry_run.as_ref().map(short).unwrap_or_default();
        let expected = self.dry_run.as_deref().unwrap_or_default();
        self.expect("the verdict of dry run", expected, &dry_run)
    }

    /// Compares what `policies` say, and how they explain it, with what the table says.
    pub(crate) fn check(&self, policies: &PolicySet<'_>) -> Result<(), String> {
        let (source, destination, principal) = self.connection();
        let conn = Connection {
            source,
            destination,
            principal: principal.as_ref(),
        };
        let verdict = decide(policies, &conn);
        self.check_decided(&verdict, &report(policies, &conn))?;
        let explanation = explain(policies, &conn);
        let explained = short(&explanation.verdict);
        self.expect("the explained verdict", &short(&verdict), &explained)?;
        let nearest = explanation.nearest.as_ref();
        if let Some(expected) = &self.nearest {
            let nearest = nearest.map(|nearest| format!("{} {}", nearest.policy, nearest.rule));
            self.expect("the nearest rule", expected, &nearest.unwrap_or_default())?;
        }
        if let Some(expected) = &self.failed {
            let failed = nearest.map(|nearest| {
                nearest
                    .failed
                    .iter()
                    .map(|condition| &*condition.field)
                    .collect()
            });
            let failed: Vec<_> = failed.unwrap_or_default();
            self.expect("what failed", &expected.join(", "), &failed.join(", "))?;
        }
        Ok(())
    }
}

/// `DENY shop/callers 0`
fn short(verdict: &Verdict) -> String {
    let policy = verdict.policy.iter().map(|policy| format!(" {policy}"));
    let rule = verdict.rule.iter().map(|rule| format!(" {rule}"));
    policy
        .chain(rule)
        .fold(verdict.action.to_string(), |text, part| text + &part)
}
