//! What agents log, changed while they run.

use crate::world::World;
use anyhow::Result;
use lab::serial::serial;

#[test]
fn a_level_is_changed_on_the_nodes_that_are_named_and_nowhere_else() -> Result<()> {
    let _one = serial();
    let world = World::new()?;
    let wanted = "info,mesh_node::hbone=trace";
    let output = world.meshctl(&["log", "--node", "node2", wanted])?;
    assert_eq!(output.stdout, format!("NODE   LEVEL\nnode2  {wanted}\n"));
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let output = world.meshctl(&["log"])?;
    assert_eq!(
        output.stdout,
        format!("NODE   LEVEL\nnode1  info\nnode2  {wanted}\n")
    );

    let output = world.meshctl(&["log", "--node", "node1", "loud"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{}", output.stdout);
    assert!(
        output
            .stderr
            .starts_with("error: agent http://10.88.0.1:15000: /logging: it answered 400: "),
        "{}",
        output.stderr
    );
    let output = world.meshctl(&["log", "--node", "node1"])?;
    assert_eq!(output.stdout, "NODE   LEVEL\nnode1  info\n");
    Ok(())
}
