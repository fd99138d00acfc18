//! Finds a pod's network namespace by the pod's processes.
//!
//! kubelet names the cgroup of each pod after its uid, and the kernel says for each process which cgroup
//! it is in. A process id may be used again between two looks: everything is read through one descriptor of
//! `/proc/PID`, which stays that of the process it was opened for. What a pod names inside its own cgroup is
//! its own business: the outermost name counts.

use rustix::fs::{Mode, OFlags, fstat, open, openat};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use thiserror::Error;

use crate::sys::{Netns, interface_addresses};

/// Why a pod's network namespace is not to be had.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotFound {
    /// No process of it runs, or none is visible.
    #[error(
        "no process has pod{0} in its cgroup; if the pod runs, the agent must see the node's processes (hostPID)"
    )]
    NoProcess(String),
    /// Its processes cannot be looked into.
    #[error("network namespace of process {0}: {1}; CAP_SYS_PTRACE and CAP_SYS_ADMIN are needed")]
    Process(u32, String),
    /// None of its processes is in a network namespace with its addresses.
    #[error("none of its {0} processes is in a network namespace of its own with its addresses")]
    Addresses(usize),
}

/// The processes of this machine, or of a node in a process namespace of its own.
#[derive(Clone, Debug)]
pub struct Processes {
    proc: PathBuf,
}

/// The network namespace of a pod, and where it was found.
#[derive(Debug)]
pub struct Found {
    /// The namespace.
    pub netns: Netns,
    /// `/proc/PID/ns/net`
    pub path: PathBuf,
}

impl Processes {
    /// Those that this proc file system shows.
    #[must_use]
    pub fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
        }
    }

    /// The processes of each of these pods, by uid.
    ///
    /// # Errors
    /// The proc file system cannot be read.
    pub fn of(&self, uids: &HashSet<&str>) -> io::Result<HashMap<String, Vec<u32>>> {
        let mut found: HashMap<String, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir(&self.proc)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // It may have ended meanwhile.
            let cgroup = fs::read_to_string(self.proc.join(&name).join("cgroup"));
            let uid = cgroup.ok().as_deref().and_then(pod_uid);
            if let Some(uid) = uid.filter(|uid| uids.contains(uid.as_str())) {
                found.entry(uid).or_default().push(pid);
            }
        }
        Ok(found)
    }

    /// The network namespace of the pod with this uid: that of one of its processes, if it has all of these
    /// addresses and is not the node's own.
    ///
    /// # Errors
    /// [`NotFound`]
    pub fn netns(
        &self,
        uid: &str,
        addresses: &[IpAddr],
        processes: &[u32],
    ) -> Result<Found, NotFound> {
        let mut failed = None;
        for &pid in processes {
            match self.open(uid, pid) {
                Ok(Some(netns)) => {
                    let own = interface_addresses(&netns).unwrap_or_default();
                    if addresses.iter().all(|address| own.contains(address)) {
                        let path = self.proc.join(pid.to_string()).join("ns/net");
                        return Ok(Found { netns, path });
                    }
                }
                Ok(None) => {}
                Err(e) => failed = Some(NotFound::Process(pid, e.to_string())),
            }
        }
        Err(failed.unwrap_or(match processes.len() {
            0 => NotFound::NoProcess(uid.into()),
            some => NotFound::Addresses(some),
        }))
    }

    /// Whether one of these processes of the pod is in the network namespace with this inode number.
    #[must_use]
    pub fn is_in(&self, inode: u64, processes: &[u32]) -> bool {
        let is_there = |pid: &u32| {
            let path = self.proc.join(pid.to_string()).join("ns/net");
            File::open(path)
                .and_then(|file| Ok(fstat(&file)?.st_ino))
                .is_ok_and(|found| found == inode)
        };
        processes.iter().any(is_there)
    }

    /// The network namespace of a process, if the process is the pod's and the namespace not the node's.
    fn open(&self, uid: &str, pid: u32) -> io::Result<Option<Netns>> {
        let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = match open(self.proc.join(pid.to_string()), directory, Mode::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let file = |name: &str| -> io::Result<OwnedFd> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            Ok(openat(&process, name, flags, Mode::empty())?)
        };
        let opened = (|| {
            let netns = file("ns/net")?;
            let mut cgroup = String::new();
            File::from(file("cgroup")?).read_to_string(&mut cgroup)?;
            Ok::<_, io::Error>((netns, cgroup))
        })();
        let (netns, cgroup) = match opened {
            Ok(opened) => opened,
            // It has ended: whoever has its number now was not looked at.
            Err(e)
                if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        if pod_uid(&cgroup).as_deref() != Some(uid) {
            return Ok(None);
        }
        let inode = fstat(&netns)?.st_ino;
        let own = fstat(File::open("/proc/self/ns/net")?)?.st_ino;
        let node = File::open(self.proc.join("1/ns/net")).and_then(|file| Ok(fstat(&file)?.st_ino));
        if inode == own || node.is_ok_and(|node| node == inode) {
            return Ok(None);
        }
        Netns::from_fd(netns).map(Some)
    }
}

/// The uid of the pod whose process has this `/proc/PID/cgroup`. Capture follows version 2 of cgroups, so only
/// its line counts, also where version 1 is mounted beside it.
fn pod_uid(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.split('/').find_map(uid_of_group)
}

/// `pod<uid>` (cgroupfs driver) or `kubepods[-class]-pod<uid with underscores>.slice` (systemd driver).
fn uid_of_group(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    // A folder of somebody else's, such as "pods".
    let is_uid = uid.len() >= 16 && uid.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6b0f3c1e-2f4d-4b8e-9a51-0c7d4f1e2a03";

    #[test]
    fn a_pod_is_known_by_its_cgroup_whatever_the_driver() {
        for path in [
            "/kubepods/burstable/pod6b0f3c1e-2f4d-4b8e-9a51-0c7d4f1e2a03/3f0c",
            "/kubepods/pod6b0f3c1e-2f4d-4b8e-9a51-0c7d4f1e2a03",
            "/kube/node1/kubepods/besteffort/pod6b0f3c1e-2f4d-4b8e-9a51-0c7d4f1e2a03/3f0c",
            "/kubepods.slice/kubepods-besteffort.slice/\
             kubepods-besteffort-pod6b0f3c1e_2f4d_4b8e_9a51_0c7d4f1e2a03.slice/cri-containerd-3f0c.scope",
            "/../../kubepods.slice/kubepods-pod6b0f3c1e_2f4d_4b8e_9a51_0c7d4f1e2a03.slice/x.scope",
            "/kubelet.slice/kubelet-kubepods.slice/\
             kubelet-kubepods-pod6b0f3c1e_2f4d_4b8e_9a51_0c7d4f1e2a03.slice/x.scope",
        ] {
            let hybrid = format!("12:memory:/elsewhere\n1:name=systemd:/\n0::{path}\n");
            assert_eq!(pod_uid(&hybrid).as_deref(), Some(UID), "{path}");
        }
    }

    #[test]
    fn what_is_no_pod_or_inside_one_is_not_taken_for_one() {
        for path in [
            "/",
            "/system.slice/kubelet.service",
            "/kubepods/burstable",
            "/lab/node1/pods/shop-web",
            "/user.slice/pod.slice",
        ] {
            assert_eq!(pod_uid(&format!("0::{path}\n")), None, "{path}");
        }
        let nested = format!("0::/kubepods/pod{UID}/app/pod00000000-0000-4000-8000-000000000000\n");
        assert_eq!(pod_uid(&nested).as_deref(), Some(UID));
        let of_version_1 = format!("4:memory:/kubepods/pod{UID}/app\n0::/\n");
        assert_eq!(pod_uid(&of_version_1), None);
    }

    #[test]
    fn only_a_process_of_the_pod_with_its_addresses_leads_to_its_namespace() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: u32, cgroup: &str| {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir_all(dir.join("ns")).unwrap();
            fs::write(dir.join("cgroup"), cgroup).unwrap();
            std::os::unix::fs::symlink("/proc/self/ns/net", dir.join("ns/net")).unwrap();
        };
        let other = "00000000-0000-4000-8000-000000000000";
        process(10, &format!("0::/kubepods/pod{UID}/a\n"));
        process(11, &format!("0::/kubepods/pod{other}/a\n"));
        process(12, "0::/system.slice\n");
        let all = Processes::new(proc.path());
        let found = all.of(&[UID].into()).unwrap();
        assert_eq!(found, [(UID.to_owned(), vec![10])].into());
        let refused = |processes: &[u32]| all.netns(UID, &[], processes).unwrap_err();
        // The agent's own network namespace is nobody's.
        assert_eq!(refused(&[10]), NotFound::Addresses(1));
        // Whoever has the number now is another pod's, or has ended.
        assert_eq!(refused(&[11, 13]), NotFound::Addresses(2));
        assert_eq!(refused(&[]), NotFound::NoProcess(UID.into()));
    }
}
