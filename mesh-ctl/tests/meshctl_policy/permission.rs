//! Files that may not be read.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use crate::{check, meshctl, transcript};

/// Somebody who owns nothing: the superuser may read every file.
const NOBODY: u32 = 65_534;

#[test]
fn a_file_that_may_not_be_read_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let file = directory.path().join("policies.yaml");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = meshctl();
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let place = directory.path().display().to_string();
    let args = [
        "--from",
        "shop/frontend",
        "--to",
        "shop/web",
        "--port",
        "80",
    ];
    let output = command
        .args(["policy", "explain", "-f", &place])
        .args(args)
        .output();
    let said = transcript(&output.unwrap()).replace(&place, "DIR");
    let line = "explain -f DIR --from shop/frontend --to shop/web --port 80";
    check("explain-no-permission", line, &said).unwrap();
}
