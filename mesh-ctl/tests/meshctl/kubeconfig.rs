//! Kubeconfigs that are missing, wrong, or somebody else's.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use serde_json::json;

use crate::run::{command, run};

/// Nobody's.
const UID: u32 = 65534;

fn write(directory: &Path, contexts: &[&str], current: Option<&str>) -> String {
    let context = |name| json!({"name": name, "context": {"cluster": "c", "user": "u"}});
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": contexts.iter().map(context).collect::<Vec<_>>(),
        "current-context": current,
    });
    let file = directory.join("config");
    std::fs::write(&file, config.to_string()).unwrap();
    file.to_string_lossy().into_owned()
}

async fn error(arguments: &[&str]) -> String {
    let output = run(command(&[arguments, &["status"]].concat())).await;
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert_eq!(output.code, Some(1));
    output.stderr.trim_end().to_owned()
}

#[tokio::test]
async fn without_a_kubeconfig_the_ways_out_are_named() {
    assert_eq!(
        error(&[]).await,
        "error: nothing says where the mesh is: there is no kubeconfig (KUBECONFIG is not set, and there is no \
         ~/.kube/config); give --kubeconfig FILE, or name the agents with --node-url http://HOST:15000"
    );
    let mut with = command(&["status"]);
    with.env("KUBECONFIG", "/nowhere");
    let output = run(with).await;
    assert!(
        output.stderr.contains("KUBECONFIG names /nowhere"),
        "{}",
        output.stderr
    );
    // What needs no mesh is shown.
    let output = run(command(&["version"])).await;
    assert_eq!(output.code, Some(0));
    assert!(
        output
            .stderr
            .starts_with("note: nothing says where the mesh is")
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    assert_eq!(
        error(&["--kubeconfig", "/nowhere"]).await,
        "error: kubeconfig /nowhere: No such file or directory; mend it, or give another with \
         --kubeconfig"
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    std::fs::write(&file, "[").unwrap();
    let shown = file.display().to_string();
    let broken = error(&["--kubeconfig", &shown]).await;
    assert!(
        broken.starts_with(&format!("error: kubeconfig {shown}: ")),
        "{broken}"
    );
}

#[tokio::test]
async fn a_wrong_context_suggests_the_nearest() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &["prod", "staging"], None);
    assert_eq!(
        error(&["--kubeconfig", &file, "--context", "stagin"]).await,
        format!(
            "error: kubeconfig {file}: there is no context \"stagin\"; did you mean \"staging\"? (there are: \
             prod, staging)"
        )
    );
    assert_eq!(
        error(&["--kubeconfig", &file]).await,
        format!(
            "error: kubeconfig {file}: no context is current; give --context NAME (there are: prod, staging)"
        )
    );
}

#[tokio::test]
async fn a_file_of_somebody_else_is_a_question_of_permission() {
    let directory = tempfile::tempdir().unwrap();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), everybody).unwrap();
    let file = write(directory.path(), &["prod"], Some("prod"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Where nobody may look, the program itself could not be started.
    let program = directory.path().join("meshctl");
    std::fs::copy(env!("CARGO_BIN_EXE_meshctl"), &program).unwrap();
    let mut stranger = std::process::Command::new(program);
    stranger
        .env_clear()
        .uid(UID)
        .args(["--kubeconfig", &file, "status"]);
    let output = run(stranger).await;
    assert_eq!(
        output.stderr,
        format!(
            "error: kubeconfig {file}: no permission to read it; run as its owner, or give another with \
             --kubeconfig\n"
        )
    );
    assert_eq!(output.code, Some(1));
}
