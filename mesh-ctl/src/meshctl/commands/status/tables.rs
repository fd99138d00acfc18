//! The tables of `meshctl status`.

use std::time::SystemTime;

use super::sync::Sync;
use super::{Controller, Status};
use crate::meshctl::output::{Cell, Column, Table, Tone};
use crate::meshctl::reach::Role;
use crate::meshctl::text;

/// Those that answered, and those that did not.
pub(super) fn controllers(status: &Status, now: SystemTime) -> Table {
    let mut table = Table::new(&[
        Column::text("CONTROLLER"),
        Column::text("READY"),
        Column::text("VERSION"),
        Column::number("AGENTS"),
        Column::number("ADDRESSES"),
        Column::number("POLICIES"),
        Column::number("UPTIME"),
        Column::number("GENERATION").wide(),
    ]);
    for Controller { name, report } in &status.controllers {
        table.row([
            name.as_str().into(),
            yes_or_no(report.ready),
            report.version.as_str().into(),
            report.nodes.len().to_string().into(),
            report.addresses.to_string().into(),
            report.policies.to_string().into(),
            text::since(&report.started, now).into(),
            report.generation.to_string().into(),
        ]);
    }
    unreachable(&mut table, status, Role::Controller);
    table
}

/// Those that answered, and those that did not.
pub(super) fn agents(status: &Status, now: SystemTime) -> Table {
    let mut table = Table::new(&[
        Column::text("NODE"),
        Column::text("READY"),
        Column::text("VERSION"),
        Column::text("SYNC"),
        Column::number("STATE AGE"),
        Column::number("PODS"),
        Column::number("CONNECTIONS"),
        Column::number("TUNNELS"),
        Column::number("UPTIME"),
        Column::text("CONTROLLER").wide(),
        Column::text("LAST ERROR").wide(),
    ]);
    for agent in &status.agents {
        let s = &agent.status;
        let age = s.controller.state_age_seconds.map(text::seconds);
        table.row([
            s.node.as_str().into(),
            yes_or_no(s.ready),
            s.version.as_str().into(),
            sync(agent.sync),
            age.unwrap_or_else(|| "never".to_owned()).into(),
            s.pods.to_string().into(),
            s.connections.to_string().into(),
            s.tunnels.to_string().into(),
            text::since(&s.started, now).into(),
            s.controller.url.as_str().into(),
            Cell::maybe(s.controller.last_error.as_deref()),
        ]);
    }
    unreachable(&mut table, status, Role::Agent);
    table
}

fn unreachable(table: &mut Table, status: &Status, role: Role) {
    for one in status.unreachable.iter().filter(|one| one.role == role) {
        let name = one.name.as_ref().unwrap_or(&one.target);
        table.row([name.as_str().into(), Cell::new("unreachable", Tone::Bad)]);
    }
}

fn yes_or_no(yes: bool) -> Cell {
    match yes {
        true => Cell::new("yes", Tone::Good),
        false => Cell::new("no", Tone::Bad),
    }
}

fn sync(sync: Sync) -> Cell {
    let tone = match sync {
        Sync::Synced | Sync::Connected => Tone::Good,
        Sync::Behind => Tone::Doubtful,
        Sync::Refused | Sync::Disconnected => Tone::Bad,
    };
    Cell::new(sync.text(), tone)
}
