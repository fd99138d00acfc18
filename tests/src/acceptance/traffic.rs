//! What the pods' traffic is on the wire between the nodes.

use super::application::{NAMESPACE, SERVICES, answer, ask};
use super::{Outcome, Stage};
use crate::capture::Capture;
use crate::cluster::{NODES, WIRE};
use crate::netns;
use anyhow::{Result, ensure};

pub(super) fn outside_the_mesh(stage: &Stage) -> Result<Outcome> {
    let [web, catalog, stock] = SERVICES;
    let Some(layout) = &stage.own else {
        ask(stage, web, catalog)?;
        ask(stage, catalog, stock)?;
        return Ok(Outcome::Holds(format!(
            "in {NAMESPACE}; the wire was not looked at"
        )));
    };
    let [one, two] = &NODES;
    let beyond = two.address.parse()?;
    let mut capture = Capture::link(&netns::path(one.netns), WIRE, beyond, &layout.logs())?;
    ask(stage, web, catalog)?;
    ask(stage, catalog, stock)?;
    let trace = capture.trace()?;
    capture.stop()?;
    for name in [catalog, stock] {
        ensure!(
            trace.contains(answer(name).as_bytes()),
            "the answer of {name} is not on the wire between the nodes"
        );
    }
    ensure!(
        trace.packets_on_port(15008) == 0,
        "there are tunnels, and no namespace is labelled"
    );
    Ok(Outcome::Holds(
        "in clear on the wire, and through no tunnel".into(),
    ))
}
