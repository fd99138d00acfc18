//! Puts the plugin where the container runtime finds it: its binary, and its entry in the node's network
//! configuration.
//!
//! The runtime uses the first configuration in its folder, by name. Of a configuration with a single plugin a list is
//! made beside it, and the original set aside under a name that runtimes do not read; uninstalling puts it back.
//! Two installers may run at once, while one replaces the other: only an entry that is missing is put back, so they
//! never undo each other's.

use notify::{RecursiveMode, Watcher as _};
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use thiserror::Error;

use super::conflist::{self, ConfError};
use super::{NAME, files};

/// A configuration that was set aside.
const ASIDE: &str = "weft-aside";
/// Others write in steps: what they have written is looked at when they have been quiet for so long.
const QUIET_FOR: Duration = Duration::from_millis(50);
/// Someone who never stops writing is not waited for longer.
const QUIET_WITHIN: Duration = Duration::from_secs(1);
/// Looks even when nothing was noticed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) net_dir: PathBuf,
    pub(super) bin_dir: PathBuf,
    pub(super) run_dir: PathBuf,
    pub(super) state_dir: PathBuf,
}

/// Why it is not installed, or not gone; names the file.
#[derive(Debug, Error)]
pub(super) enum InstallError {
    /// The file system said no.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// A configuration cannot be used.
    #[error("{0}: {1}")]
    Configuration(PathBuf, #[source] ConfError),
    /// The node has no network yet.
    #[error("{0}: there is no network configuration; install the cluster's CNI plugin first")]
    None(PathBuf),
    /// The folder cannot be watched.
    #[error("{0}: cannot be watched: {1}")]
    Watch(PathBuf, #[source] notify::Error),
}

/// Installs and removes the plugin.
#[derive(Debug)]
pub(super) struct Installer {
    paths: Paths,
}

impl Installer {
    pub(super) const fn new(paths: Paths) -> Self {
        Self { paths }
    }

    /// Copies the binary and adds the entry, in place of an older one.
    pub(super) fn install(&self) -> Result<(), InstallError> {
        self.copy_binary()?;
        self.configure(true)
    }

    /// Removes the entry from every configuration, and the binary.
    pub(super) fn uninstall(&self) -> Result<(), InstallError> {
        for path in configurations(&self.paths.net_dir)? {
            let text = read(&path)?;
            let unusable = |e| InstallError::Configuration(path.clone(), e);
            if is_single(&path, &text) {
                continue;
            }
            let Some(without) = conflist::without_plugin(&text).map_err(unusable)? else {
                continue;
            };
            let failed = |e| InstallError::Io(path.clone(), e);
            let aside = aside(&path);
            if aside.exists() {
                let original = path.with_extension("conf");
                fs::rename(&aside, &original).map_err(failed)?;
                fs::remove_file(&path).map_err(failed)?;
                files::sync_folder(&path).map_err(failed)?;
            } else {
                files::replace(&path, without.as_bytes(), files::mode(&path)).map_err(failed)?;
            }
            println!("mesh-cni: removed from {}", path.display());
        }
        let binary = self.paths.bin_dir.join(NAME);
        match fs::remove_file(&binary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(InstallError::Io(binary, e)),
            _ => Ok(()),
        }
    }

    /// Installs, then puts back whatever goes missing, until the process is ended. Ending it removes nothing:
    /// pods of the mesh go on being captured while the next one starts.
    pub(super) fn run(&self) -> Result<(), InstallError> {
        let (notices, noticed) = mpsc::channel();
        let watch_failed = |e| InstallError::Watch(self.paths.net_dir.clone(), e);
        let mut watcher = notify::recommended_watcher(move |event| {
            if is_change(&event) {
                // The receiver lives as long as the process.
                let _ = notices.send(());
            }
        })
        .map_err(watch_failed)?;
        watcher
            .watch(&self.paths.net_dir, RecursiveMode::NonRecursive)
            .map_err(watch_failed)?;
        self.copy_binary()?;
        let mut replace = true;
        let mut said = String::new();
        loop {
            // What others do is no reason to end: it is said once, and looked at again.
            let outcome = self.configure(replace).and_then(|()| self.ensure_binary());
            match outcome {
                Ok(()) => {
                    replace = false;
                    said.clear();
                }
                Err(e) if e.to_string() != said => {
                    said = e.to_string();
                    eprintln!("mesh-cni: {said}; looking again when it changes");
                }
                Err(_) => {}
            }
            if noticed.recv_timeout(LOOK_EVERY).is_ok() {
                let first = Instant::now();
                while first.elapsed() < QUIET_WITHIN && noticed.recv_timeout(QUIET_FOR).is_ok() {}
            }
        }
    }

    /// Adds the entry to the configuration that the runtime uses. One that is there stays as it is, unless it
    /// is to be replaced.
    fn configure(&self, replace: bool) -> Result<(), InstallError> {
        let none = || InstallError::None(self.paths.net_dir.clone());
        let all = configurations(&self.paths.net_dir)?;
        let path = all.first().ok_or_else(none)?;
        let text = read(path)?;
        let unusable = |e| InstallError::Configuration(path.clone(), e);
        let single = is_single(path, &text);
        let list = match single {
            true => conflist::from_single(&text).map_err(unusable)?,
            false => text.clone(),
        };
        if conflist::has_plugin(&list).map_err(unusable)? && !replace {
            return Ok(());
        }
        let entry = json!({
            "type": NAME, "runDir": self.paths.run_dir, "stateDir": self.paths.state_dir,
        });
        let wanted = conflist::with_plugin(&list, &entry).map_err(unusable)?;
        if !single && wanted == text {
            return Ok(());
        }
        let target = path.with_extension("conflist");
        let target = if single { &target } else { path };
        let failed = |e| InstallError::Io(target.clone(), e);
        files::replace(target, wanted.as_bytes(), files::mode(path)).map_err(failed)?;
        if single {
            fs::rename(path, aside(target)).map_err(failed)?;
            files::sync_folder(target).map_err(failed)?;
        }
        println!("mesh-cni: added to {}", target.display());
        Ok(())
    }

    fn ensure_binary(&self) -> Result<(), InstallError> {
        match self.paths.bin_dir.join(NAME).exists() {
            true => Ok(()),
            false => self.copy_binary(),
        }
    }

    fn copy_binary(&self) -> Result<(), InstallError> {
        let own = Path::new("/proc/self/exe");
        let binary = fs::read(own).map_err(|e| InstallError::Io(own.into(), e))?;
        let target = self.paths.bin_dir.join(NAME);
        let copied = fs::create_dir_all(&self.paths.bin_dir)
            .and_then(|()| files::replace(&target, &binary, 0o755));
        copied.map_err(|e| InstallError::Io(target, e))
    }
}

/// What may have altered the folder, which reading it does not. A watcher that failed may have missed a change.
fn is_change(event: &notify::Result<notify::Event>) -> bool {
    !matches!(event, Ok(event) if event.kind.is_access())
}

/// The files that a runtime takes for configurations, in its order.
fn configurations(net_dir: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let failed = |e| InstallError::Io(net_dir.to_owned(), e);
    let mut found = Vec::new();
    for entry in fs::read_dir(net_dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("conf" | "conflist" | "json")) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String, InstallError> {
    fs::read_to_string(path).map_err(|e| InstallError::Io(path.to_owned(), e))
}

/// A single plugin's configuration: runtimes go by the file's name, and for `.json` by its content.
fn is_single(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|kind| kind.to_str()) {
        Some("conflist") => false,
        Some("conf") => true,
        _ => !text.contains("\"plugins\""),
    }
}

/// Where the configuration is that this list was made of.
fn aside(list: &Path) -> PathBuf {
    list.with_extension(ASIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "{\"cniVersion\": \"1.0.0\", \"name\": \"n\",\n \"plugins\": [\n  {\"type\": \"bridge\"}\n ]}\n";
    const SINGLE: &str = "{\"cniVersion\": \"0.3.1\", \"name\": \"n\", \"type\": \"ptp\"}\n";

    struct Node {
        dir: tempfile::TempDir,
        installer: Installer,
    }

    impl Node {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let paths = Paths {
                net_dir: at("net.d"),
                bin_dir: at("bin"),
                run_dir: "/run/weft".into(),
                state_dir: "/var/lib/weft".into(),
            };
            fs::create_dir(&paths.net_dir).unwrap();
            let node = Self {
                dir,
                installer: Installer::new(paths),
            };
            for (name, content) in files {
                fs::write(node.path(name), content).unwrap();
            }
            node
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("net.d").join(name)
        }

        fn files(&self) -> Vec<(String, String)> {
            let entries = fs::read_dir(self.dir.path().join("net.d")).unwrap();
            let read = |entry: io::Result<fs::DirEntry>| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            };
            let mut files: Vec<_> = entries.map(read).collect();
            files.sort();
            files
        }

        fn has(&self, name: &str) -> bool {
            let text = fs::read_to_string(self.path(name)).unwrap_or_default();
            conflist::has_plugin(&text).unwrap_or(false)
        }
    }

    #[test]
    fn the_first_list_gets_it_and_uninstalling_leaves_everything_as_it_was() {
        let node = Node::new(&[("10-net.conflist", LIST), ("20-other.conflist", LIST)]);
        let before = node.files();
        node.installer.install().unwrap();
        assert!(node.has("10-net.conflist") && !node.has("20-other.conflist"));
        let installed = node.files();
        node.installer.install().unwrap();
        assert_eq!(node.files(), installed, "twice is as once");
        let binary = node.dir.path().join("bin").join(NAME);
        assert_eq!(files::mode(&binary), 0o755);
        node.installer.uninstall().unwrap();
        assert_eq!(node.files(), before);
        assert!(!binary.exists());
    }

    #[test]
    fn of_a_single_plugin_a_list_is_made_and_unmade() {
        let node = Node::new(&[("10-net.conf", SINGLE)]);
        node.installer.install().unwrap();
        assert!(node.has("10-net.conflist"));
        let names: Vec<_> = node.files().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["10-net.conflist", "10-net.weft-aside"]);
        // Its owner writes it again: it would be read first.
        fs::write(node.path("10-net.conf"), SINGLE).unwrap();
        node.installer.configure(false).unwrap();
        assert!(!node.path("10-net.conf").exists() && node.has("10-net.conflist"));
        node.installer.uninstall().unwrap();
        assert_eq!(
            node.files(),
            [("10-net.conf".to_owned(), SINGLE.to_owned())]
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_file_and_field() {
        let none = Node::new(&[("README", "")])
            .installer
            .install()
            .unwrap_err();
        assert!(
            none.to_string().contains("no network configuration"),
            "{none}"
        );
        let bad = Node::new(&[("10-net.conflist", r#"{"plugins": [{"type": 1}]}"#)]);
        let why = bad.installer.install().unwrap_err().to_string();
        assert!(why.contains("10-net.conflist: plugins[0].type"), "{why}");
    }

    #[test]
    fn a_configuration_that_is_rewritten_is_repaired() {
        let node = Node::new(&[]);
        let paths = node.installer.paths.clone();
        // It runs until the process ends.
        std::thread::spawn(move || Installer::new(paths).run());
        let eventually = |what: &str| {
            let began = Instant::now();
            while !node.has("10-net.conflist") {
                assert!(began.elapsed() < Duration::from_secs(30), "{what}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        fs::write(node.path("10-net.conflist"), LIST).unwrap();
        eventually("a configuration that came later");
        for _ in 0..3 {
            let draft = node.path("draft");
            fs::write(&draft, LIST.replace("bridge", "ptp")).unwrap();
            fs::rename(&draft, node.path("10-net.conflist")).unwrap();
            eventually("a configuration that was replaced");
        }
        assert!(
            fs::read_to_string(node.path("10-net.conflist"))
                .unwrap()
                .contains("ptp")
        );
    }
}
