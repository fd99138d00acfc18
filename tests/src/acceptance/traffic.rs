//! What the pods' traffic is on the wire between the nodes.

use super::application::{NAMESPACE, SERVICES, answer, ask};
use super::enrolment::{TUNNEL, on_the_wire};
use super::{Outcome, Stage};
use anyhow::{Result, ensure};

pub(super) fn outside_the_mesh(stage: &Stage) -> Result<Outcome> {
    let [web, catalog, stock] = SERVICES;
    let trace = on_the_wire(stage, || {
        ask(stage, web, catalog)?;
        ask(stage, catalog, stock).map(drop)
    })?;
    let Some(trace) = trace else {
        return Ok(Outcome::Holds(format!(
            "in {NAMESPACE}; the wire was not looked at"
        )));
    };
    for name in [catalog, stock] {
        ensure!(
            trace.contains(answer(name).as_bytes()),
            "the answer of {name} is not on the wire between the nodes"
        );
    }
    ensure!(
        trace.packets_on_port(TUNNEL) == 0,
        "there are tunnels, and no namespace is labelled"
    );
    Ok(Outcome::Holds(
        "in clear on the wire, and through no tunnel".into(),
    ))
}
