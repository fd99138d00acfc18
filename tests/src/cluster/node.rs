//! A node: process 1 of namespaces in which it, and its pods, take this for a whole machine.
//!
//! Its host name, its /proc, the roots of its cgroups, its bpffs and the folders of kubelet, containerd and CNI are its
//! own. When process 1 ends, the kernel ends the node's processes and mounts.

use super::layout::{Layout, NODES, Node, OWN, PODS};
use super::{cgroups, daemon};
use crate::shell;
use crate::wait;
use anyhow::{Context as _, Result, bail};
use rustix::process::{WaitOptions, wait as wait_for_child};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The container that holds a pod's namespaces.
const PAUSE: &str = "localhost/weft-test/pause:1";
/// Debian's plugins.
const PLUGINS: &str = "/usr/lib/cni";
const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// Starts the node's process 1.
pub(super) fn start(layout: &Layout, node: &Node) -> Result<()> {
    let own = std::env::current_exe()?.display().to_string();
    let argv = [
        "unshare",
        "--cgroup",
        "--mount",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation",
        "slave",
        "--",
        &own,
        "node",
        node.name,
    ];
    let log = layout.logs().join(format!("{}.log", node.name));
    daemon::start(
        layout,
        node.name,
        node.netns,
        &argv.map(str::to_owned),
        &log,
    )
}

/// Is process 1 of the node called `name`: prepares what it sees, starts its daemons and reaps.
///
/// # Errors
/// When something cannot be prepared, and when a daemon ends.
pub fn serve(layout: &Layout, name: &str) -> Result<()> {
    let known = NODES.iter().find(|node| node.name == name);
    let node = known.with_context(|| format!("there is no node {name}"))?;
    prepare(layout, node)?;
    let files = Files::write(layout, node)?;
    let mut daemons = vec![
        spawn(
            layout,
            node,
            &layout.program("kube-proxy"),
            &[format!("--config={}", files.proxy.display())],
        )?,
        spawn(
            layout,
            node,
            "containerd",
            &[format!("--config={}", files.containerd.display())],
        )?,
    ];
    wait::until_true("containerd", Duration::from_secs(120), || {
        Ok(shell::run(&["ctr", "version"]).is_ok())
    })?;
    let config = layout.keys().join(format!("kubelet-{name}.kubeconfig"));
    daemons.push(spawn(
        layout,
        node,
        &layout.program("kubelet"),
        &[
            format!("--config={}", files.kubelet.display()),
            format!("--kubeconfig={}", config.display()),
            "--container-runtime=remote".into(),
            format!("--container-runtime-endpoint={SOCKET}"),
            format!("--node-ip={}", node.address),
            format!("--hostname-override={name}"),
            format!("--pod-infra-container-image={PAUSE}"),
        ],
    )?);
    reap(&daemons)
}

/// Reaps what containers' shims leave to process 1, until a daemon ends.
fn reap(daemons: &[Child]) -> Result<()> {
    loop {
        let Some((pid, status)) = wait_for_child(WaitOptions::empty())? else {
            continue;
        };
        let pid = u32::try_from(pid.as_raw_nonzero().get())?;
        if daemons.iter().any(|daemon| daemon.id() == pid) {
            bail!("a daemon of the node (process {pid}) ended: {status:?}");
        }
    }
}

fn prepare(layout: &Layout, node: &Node) -> Result<()> {
    shell::run(&["hostname", node.name])?;
    // What kubelet expects; the machine only passes mounts in, and none go out.
    shell::run(&["mount", "--make-rshared", "/"])?;
    // Mounted anew, hierarchies have their root where the cgroup namespace has it: in the node's group.
    for hierarchy in cgroups::hierarchies()? {
        let mount = hierarchy.mount.display().to_string();
        shell::run(&["umount", &mount])?;
        shell::run(&[
            "mount",
            "-t",
            &hierarchy.kind,
            "-o",
            &hierarchy.options,
            &hierarchy.kind,
            &mount,
        ])?;
    }
    for own in OWN {
        let source = layout.node(node).join(own);
        fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
        let source = source.display().to_string();
        shell::run(&["mount", "--bind", &source, &format!("/{own}")])?;
    }
    shell::run(&["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"])?;
    for plugin in fs::read_dir(PLUGINS).with_context(|| format!("cannot read {PLUGINS}"))? {
        let plugin = plugin?;
        let link = Path::new("/opt/cni/bin").join(plugin.file_name());
        if !link.exists() {
            symlink(plugin.path(), &link)
                .with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(())
}

fn spawn(layout: &Layout, node: &Node, program: &str, flags: &[String]) -> Result<Child> {
    let name = Path::new(program).file_name().unwrap_or_default();
    let log = layout
        .logs()
        .join(format!("{}-{}.log", name.to_string_lossy(), node.name));
    let output = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    let mut command = Command::new(program);
    command.args(flags).stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    command
        .spawn()
        .with_context(|| format!("cannot start {program}"))
}

/// The configuration of a node's daemons.
struct Files {
    containerd: PathBuf,
    kubelet: PathBuf,
    proxy: PathBuf,
}

impl Files {
    fn write(layout: &Layout, node: &Node) -> Result<Self> {
        let home = layout.node(node);
        let put = |name: &str, text: &str| -> Result<PathBuf> {
            let path = home.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        // Nobody answers: the cluster has no names of its own.
        let resolver = put("resolv.conf", "nameserver 127.0.0.53\n")?;
        let network = Path::new("/etc/cni/net.d/10-weft-test.conflist");
        // A node that comes back has what others put into it meanwhile.
        if !network.exists() {
            fs::write(network, plugins(node).to_string())
                .with_context(|| format!("cannot write {}", network.display()))?;
        }
        Ok(Self {
            containerd: put("containerd.toml", CONTAINERD)?,
            // JSON is YAML.
            kubelet: put(
                "kubelet.yaml",
                &kubelet(layout, node, &resolver).to_string(),
            )?,
            proxy: put("kube-proxy.yaml", &proxy(layout, node).to_string())?,
        })
    }
}

/// Root without CAP_SYS_RESOURCE may not lower a process's OOM score.
const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/weft-test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"#;

/// A bridge, and no masquerading: the other node sees a pod's own address.
fn plugins(node: &Node) -> Value {
    json!({"cniVersion": "0.4.0", "name": "weft-test", "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": node.pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn kubelet(layout: &Layout, node: &Node, resolver: &Path) -> Value {
    let key = |name: &str| layout.keys().join(name).display().to_string();
    let serving = format!("kubelet-serving-{}", node.name);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": key("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": key(&format!("{serving}.crt")),
        "tlsPrivateKeyFile": key(&format!("{serving}.key")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "failSwapOn": false,
        "maxPods": 200,
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "resolvConf": resolver,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "nodeStatusUpdateFrequency": "2s",
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    })
}

fn proxy(layout: &Layout, node: &Node) -> Value {
    let config = layout.keys().join("kube-proxy.kubeconfig");
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": config},
        "clusterCIDR": PODS,
        "hostnameOverride": node.name,
        "bindAddress": node.address,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // These settings are the machine's.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    })
}
