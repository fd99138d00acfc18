//! Sends a pod's connections to the proxy's listeners inside the pod, by rules of the kernel's firewall
//! in the pod's network namespace, as the CNI agent of such a mesh does.

use crate::shell;
use crate::topology::Pod;
use anyhow::{Context as _, Result};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// The proxy's own sockets carry the mark 0x539: they are never redirected. Packets that answer to the
/// client's address, which the proxy borrows, come back to it by way of the connection's mark 0x111.
const RULES: &str = "
table inet proxy {
    chain prerouting-mark {
        type filter hook prerouting priority mangle
        meta mark & 0xfff == 0x539 ct mark set 0x111
    }
    chain output-mark {
        type route hook output priority mangle
        ct mark & 0xfff == 0x111 meta mark set ct mark
    }
    chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr != 127.0.0.1 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006
        ip6 daddr != ::1 tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006
    }
    chain output {
        type nat hook output priority -100
        meta l4proto tcp meta mark & 0xfff == 0x111 accept
        oifname lo ip daddr != 127.0.0.1 accept
        oifname lo ip6 daddr != ::1 accept
        ip daddr != 127.0.0.1 meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001
        ip6 daddr != ::1 meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001
    }
}
";
const ROUTES: &[&[&str]] = &[
    &[
        "-4",
        "rule",
        "add",
        "fwmark",
        "0x111/0xfff",
        "pref",
        "32764",
        "lookup",
        "100",
    ],
    &[
        "-6",
        "rule",
        "add",
        "fwmark",
        "0x111/0xfff",
        "pref",
        "32764",
        "lookup",
        "100",
    ],
    &[
        "-4",
        "route",
        "add",
        "local",
        "0.0.0.0/0",
        "dev",
        "lo",
        "table",
        "100",
    ],
    &[
        "-6", "route", "add", "local", "::/0", "dev", "lo", "table", "100",
    ],
];

/// Redirects the pod's TCP from now on.
pub(super) fn install(pod: &Pod) -> Result<()> {
    for words in ROUTES {
        let argv = [&["ip"][..], words].concat();
        let output = pod.place.run(&argv, LIMIT)?;
        anyhow::ensure!(
            output.success(),
            "`{}`: {}",
            argv.join(" "),
            output.summary()
        );
    }
    let mut nft = pod.place.command(&["nft", "-f", "-"]);
    let output = shell::capture(&mut nft, RULES.as_bytes(), LIMIT)
        .context("is nftables installed? `cargo xtask setup` installs it")?;
    anyhow::ensure!(output.success(), "nft in {}: {}", pod.key(), output.stderr);
    Ok(())
}
