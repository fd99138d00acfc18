//! Removes labs: one's own at the end, and those whose owner died. A lab whose owner lives is never
//! touched, and neither is anything whose name is not exactly a lab's.

use crate::id::LabId;
use crate::owner::Owner;
use crate::{bpffs, cgroup, netns};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Removes what dead owners left behind, and says which labs that was and how it went.
pub fn sweep() -> Result<Vec<(LabId, Result<()>)>> {
    // The directory with the owner's name is made first and removed last: a lab that shows an object
    // but no directory has no owner.
    let orphan = |id: &LabId| !Owner::read(&id.dir()).is_some_and(Owner::is_alive);
    Ok(all()?
        .into_iter()
        .filter(orphan)
        .map(|id| (id.clone(), remove(&id)))
        .collect())
}

/// Removes everything that belongs to the lab. Whatever fails, the rest is still removed.
pub fn remove(id: &LabId) -> Result<()> {
    let dir = id.dir();
    // Processes first: they hold the rest.
    let mut steps = vec![
        cgroup::mount_point().and_then(|root| cgroup::remove(&root.join(id.to_string()))),
        bpffs::unmount(&dir.join("bpf")),
    ];
    let own = |name: &String| LabId::of_object(name).as_ref() == Some(id);
    steps.extend(
        netns::list()
            .into_iter()
            .filter(own)
            .map(|name| netns::delete(&name)),
    );
    let mut errors: Vec<String> = steps
        .into_iter()
        .filter_map(Result::err)
        .map(|e| format!("{e:#}"))
        .collect();
    if errors.is_empty() {
        errors.extend(remove_dir(&dir).err().map(|e| format!("{e:#}")));
    }
    if !errors.is_empty() {
        bail!("{id} is not wholly removed: {}", errors.join("; "));
    }
    Ok(())
}

/// The labs of which anything is there.
pub fn all() -> Result<BTreeSet<LabId>> {
    let mut labs: BTreeSet<LabId> = netns::list()
        .iter()
        .filter_map(|n| LabId::of_object(n))
        .collect();
    for parent in [cgroup::mount_point()?, "/tmp".into()] {
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            labs.extend(LabId::of_container(&entry.file_name().to_string_lossy()));
        }
    }
    Ok(labs)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
