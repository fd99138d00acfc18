//! `cargo xtask setup`: brings every prerequisite that is missing, at a pinned version, and changes
//! nothing on a machine that has them all.

use crate::apt;
use crate::exec::{cargo, command, output, run as run_command, step};
use anyhow::Result;
use std::path::Path;

const LLVM: &str = "/usr/lib/llvm-22";
const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";

/// What it takes to build the programs.
const BUILD_PACKAGES: &[&str] = &[
    "g++",
    "libpolly-22-dev",
    "libzstd-dev",
    "llvm-22-dev",
    "zlib1g-dev",
];
/// What it takes to run the lab: the network tools and the applications.
const LAB_PACKAGES: &[&str] = &[
    "bpftool",
    "curl",
    "iproute2",
    "mount",
    "nginx",
    "postgresql",
    "postgresql-client",
    "procps",
    "redis-server",
    "redis-tools",
    "tcpdump",
    "util-linux",
];

/// What it takes to build a fuzz target: its runtime is C++.
const FUZZ_PACKAGES: &[&str] = &["g++"];
/// What it takes to load the lab, to send a peer's connections to it, and to count system calls.
const BENCH_PACKAGES: &[&str] = &["linux-perf", "nftables", "wrk"];

/// What it takes to run a Kubernetes API server.
const KUBERNETES_PACKAGES: &[&str] = &["etcd-server", "util-linux"];
/// What it takes to build one: its source is a Debian package too.
const KUBERNETES_BUILD_PACKAGES: &[&str] = &[
    "dpkg-dev",
    "golang-1.19-go",
    "golang-github-modern-go-reflect2-dev",
    "patch",
    "xz-utils",
];

/// The target that static programs are linked for, on this machine.
pub(crate) const STATIC_TARGET: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-musl"
} else {
    "x86_64-unknown-linux-musl"
};
/// What it takes to compile C for it.
const IMAGE_PACKAGES: &[&str] = &["musl-tools"];

/// What it takes to run nodes, and to look at what they do.
const CLUSTER_PACKAGES: &[&str] = &[
    "bpftool",
    "busybox-static",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "etcd-server",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "prometheus",
    "runc",
    "tcpdump",
    "util-linux",
];

/// Debian's kubectl.
const KUBECTL_PACKAGE: &str = "kubernetes-client";

/// Which prerequisites a command needs.
pub(crate) struct Needs {
    bpf: bool,
    lab: bool,
    bench: bool,
    lints: bool,
    fuzz: bool,
    kubernetes: bool,
    kubernetes_build: bool,
    cluster: bool,
    /// To link static programs.
    musl: bool,
}

impl Needs {
    /// For developers: all of them.
    pub(crate) const fn everything() -> Self {
        Self {
            bpf: true,
            lab: true,
            bench: true,
            lints: true,
            fuzz: true,
            kubernetes: true,
            kubernetes_build: true,
            cluster: true,
            musl: true,
        }
    }

    /// To build the programs and run them in the lab.
    pub(crate) const fn lab() -> Self {
        Self {
            lab: true,
            ..Self::build()
        }
    }

    /// To build the programs, run them in the lab and measure them.
    pub(crate) const fn bench() -> Self {
        Self {
            bench: true,
            ..Self::lab()
        }
    }

    /// To build the programs.
    pub(crate) const fn build() -> Self {
        Self {
            bpf: true,
            lab: false,
            bench: false,
            lints: false,
            fuzz: false,
            kubernetes: false,
            kubernetes_build: false,
            cluster: false,
            musl: false,
        }
    }

    /// To run a Kubernetes API server, and to build it unless it is `cached`.
    pub(crate) const fn kubernetes(cached: bool) -> Self {
        Self {
            bpf: false,
            kubernetes: true,
            kubernetes_build: !cached,
            ..Self::build()
        }
    }

    /// To run a cluster of two nodes, and to build its programs unless they are `cached`.
    pub(crate) const fn cluster(cached: bool) -> Self {
        Self {
            cluster: true,
            ..Self::kubernetes(cached)
        }
    }

    /// To run every test, with an API server that is built unless it is `cached`.
    pub(crate) const fn tests(cached: bool) -> Self {
        Self {
            kubernetes: true,
            kubernetes_build: !cached,
            ..Self::bench()
        }
    }

    /// To check the sources, those of the fuzz targets included.
    pub(crate) const fn lints() -> Self {
        Self {
            lints: true,
            ..Self::build()
        }
    }

    /// To build the programs for images.
    pub(crate) const fn image() -> Self {
        Self {
            musl: true,
            ..Self::build()
        }
    }

    /// To run the fuzz targets.
    pub(crate) const fn fuzz() -> Self {
        Self {
            bpf: false,
            fuzz: true,
            ..Self::build()
        }
    }
}

/// Installs what is missing of `needs`, as one step with its duration.
pub(crate) fn run(needs: &Needs) -> Result<()> {
    step("setup", || install(needs))
}

fn install(needs: &Needs) -> Result<()> {
    packages(needs)?;
    components()?;
    if needs.musl {
        rust_target(STATIC_TARGET)?;
    }
    if needs.bpf {
        cargo_tool("bpf-linker", BPF_LINKER, |install| {
            let path = std::env::var("PATH").unwrap_or_default();
            install.args(["--no-default-features", "--features", "llvm-22"]);
            install
                .env("PATH", format!("{LLVM}/bin:{path}"))
                .env("LLVM_PREFIX", LLVM);
        })?;
    }
    if needs.lints {
        cargo_tool("cargo-deny", CARGO_DENY, |_| {})?;
    }
    if needs.fuzz {
        cargo_tool("cargo-fuzz", CARGO_FUZZ, |_| {})?;
    }
    Ok(())
}

fn packages(needs: &Needs) -> Result<()> {
    let mut wanted = Vec::new();
    // A linker that is there was linked against its LLVM: its headers are needed to build it only.
    if needs.bpf && (!has_tool("bpf-linker", BPF_LINKER) || !Path::new(LLVM).exists()) {
        wanted.extend(BUILD_PACKAGES);
    }
    if needs.fuzz || needs.lints {
        wanted.extend(FUZZ_PACKAGES);
    }
    if needs.lab {
        wanted.extend(LAB_PACKAGES);
    }
    if needs.bench {
        wanted.extend(BENCH_PACKAGES);
    }
    if needs.kubernetes {
        wanted.extend(KUBERNETES_PACKAGES);
    }
    if needs.kubernetes_build {
        wanted.extend(KUBERNETES_BUILD_PACKAGES);
    }
    if needs.cluster {
        wanted.extend(CLUSTER_PACKAGES);
        // Other packages than Debian's bring it too, and do not go together with that.
        if output(command("kubectl", &["version", "--client"])).is_none() {
            wanted.push(KUBECTL_PACKAGE);
        }
    }
    if needs.musl {
        wanted.extend(IMAGE_PACKAGES);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let missing = apt::missing(&wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    step(
        &format!("install Debian packages: {}", missing.join(" ")),
        || apt::install(&missing),
    )
}

fn components() -> Result<()> {
    let Some(list) = output(command("rustup", &["component", "list", "--installed"])) else {
        anyhow::bail!("`rustup component list` does not run; install rustup (https://rustup.rs)");
    };
    for component in ["rust-src", "clippy", "rustfmt"] {
        if list.lines().any(|line| line.starts_with(component)) {
            continue;
        }
        step(&format!("add the Rust component {component}"), || {
            run_command(
                command("rustup", &["component", "add", component]),
                "is the network reachable?",
            )
        })?;
    }
    Ok(())
}

fn rust_target(target: &str) -> Result<()> {
    let installed = output(command("rustup", &["target", "list", "--installed"]));
    if installed.is_some_and(|list| list.lines().any(|line| line == target)) {
        return Ok(());
    }
    step(&format!("add the Rust target {target}"), || {
        run_command(
            command("rustup", &["target", "add", target]),
            "is the network reachable?",
        )
    })
}

fn cargo_tool(
    name: &str,
    version: &str,
    adjust: impl FnOnce(&mut std::process::Command),
) -> Result<()> {
    if has_tool(name, version) {
        return Ok(());
    }
    step(&format!("install {name} {version}"), || {
        let mut install = cargo(&["install", "--quiet", name, "--version", version, "--locked"]);
        adjust(&mut install);
        run_command(
            install,
            "read cargo's message above; it downloads from crates.io",
        )
    })
}

fn has_tool(name: &str, version: &str) -> bool {
    output(command(name, &["--version"])).is_some_and(|text| text.trim().ends_with(version))
}
