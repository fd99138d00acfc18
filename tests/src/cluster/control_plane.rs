//! etcd, the API server, the controller manager and the scheduler, on the first node's network.

use super::daemon;
use super::layout::{Layout, NODES, PODS, SERVICES};
use anyhow::Result;

const GROUP: &str = "control-plane";

pub(super) fn start(layout: &Layout) -> Result<()> {
    let data = layout.state().join("etcd").display().to_string();
    run(
        layout,
        "etcd",
        "etcd".into(),
        &[
            ("name", "weft"),
            ("data-dir", &data),
            ("listen-client-urls", "http://127.0.0.1:2379"),
            ("advertise-client-urls", "http://127.0.0.1:2379"),
            ("listen-peer-urls", "http://127.0.0.1:2380"),
            ("initial-advertise-peer-urls", "http://127.0.0.1:2380"),
            ("initial-cluster", "weft=http://127.0.0.1:2380"),
            // The data need not outlive the machine.
            ("unsafe-no-fsync", "true"),
        ],
    )?;
    let key = |name: &str| layout.keys().join(name).display().to_string();
    run(
        layout,
        "kube-apiserver",
        layout.program("kube-apiserver"),
        &[
            ("etcd-servers", "http://127.0.0.1:2379"),
            ("bind-address", "0.0.0.0"),
            ("secure-port", "6443"),
            ("advertise-address", NODES[0].address),
            ("tls-cert-file", &key("apiserver.crt")),
            ("tls-private-key-file", &key("apiserver.key")),
            ("client-ca-file", &key("ca.crt")),
            ("kubelet-client-certificate", &key("kubelet-client.crt")),
            ("kubelet-client-key", &key("kubelet-client.key")),
            ("kubelet-certificate-authority", &key("ca.crt")),
            ("kubelet-preferred-address-types", "InternalIP"),
            ("service-account-issuer", crate::kubernetes::ISSUER),
            ("service-account-key-file", &key("accounts.pub")),
            ("service-account-signing-key-file", &key("accounts.key")),
            ("service-cluster-ip-range", SERVICES),
            ("authorization-mode", "Node,RBAC"),
            ("enable-admission-plugins", "NodeRestriction"),
            ("allow-privileged", "true"),
        ],
    )
}

/// Starts what makes pods of deployments and puts them on nodes.
pub(super) fn start_controllers(layout: &Layout) -> Result<()> {
    let key = |name: &str| layout.keys().join(name).display().to_string();
    let manager = key("kube-controller-manager.kubeconfig");
    run(
        layout,
        "kube-controller-manager",
        layout.program("kube-controller-manager"),
        &[
            ("kubeconfig", &manager),
            ("authentication-kubeconfig", &manager),
            ("authorization-kubeconfig", &manager),
            ("bind-address", "127.0.0.1"),
            ("port", "0"),
            ("leader-elect", "false"),
            ("cluster-cidr", PODS),
            ("use-service-account-credentials", "true"),
            ("service-account-private-key-file", &key("accounts.key")),
            ("root-ca-file", &key("ca.crt")),
        ],
    )?;
    let scheduler = key("kube-scheduler.kubeconfig");
    run(
        layout,
        "kube-scheduler",
        layout.program("kube-scheduler"),
        &[
            ("kubeconfig", &scheduler),
            ("authentication-kubeconfig", &scheduler),
            ("authorization-kubeconfig", &scheduler),
            ("bind-address", "127.0.0.1"),
            ("port", "0"),
            ("leader-elect", "false"),
        ],
    )
}

fn run(layout: &Layout, name: &str, program: String, flags: &[(&str, &str)]) -> Result<()> {
    let flags = flags
        .iter()
        .map(|(flag, value)| format!("--{flag}={value}"));
    let argv: Vec<String> = std::iter::once(program).chain(flags).collect();
    let log = layout.logs().join(format!("{name}.log"));
    daemon::start(layout, GROUP, NODES[0].netns, &argv, &log)
}
