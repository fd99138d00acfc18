//! Files that are replaced in one step.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Makes `path` have this content and mode; a crash leaves the old file or the new one. The draft has a name that
/// no container runtime takes for a configuration.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}.weft-draft", std::process::id()));
    let written = (|| {
        let mut file = File::create(&draft)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_folder(path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

/// The mode of a file, or 0644 when there is none.
pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0o644, |found| found.permissions().mode() & 0o7777)
}

/// Has what happened to the file's name survive a crash.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
