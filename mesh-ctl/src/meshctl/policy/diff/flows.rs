//! Connections that a file declares.

use std::collections::HashMap;
use std::path::Path;

use mesh_common::question::{self, Client, QuestionError, Target};
use serde::Deserialize;

use super::content;
use super::effect::{Judge, Side, State};
use super::report::Report;
use crate::meshctl::CliError;

/// One declared flow, and where it stands in the file.
pub(super) struct Flow {
    from: String,
    to: String,
    port: u16,
    place: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    from: String,
    to: String,
    port: u16,
}

/// Reads YAML (or JSON), or CSV if the name ends so.
pub(super) fn read(file: &Path) -> Result<Vec<Flow>, CliError> {
    let text = content(file)?;
    let csv = file.extension().is_some_and(|extension| extension == "csv");
    let flows = if csv { of_csv(&text) } else { of_yaml(&text) };
    let wrong = |why: String| CliError::Failed(format!("{}: {why}", file.display()));
    let flows = flows.map_err(wrong)?;
    match flows.iter().find(|flow| flow.port == 0) {
        Some(flow) => Err(wrong(format!(
            "{}: port 0 is no port; write 1 to 65535",
            flow.place
        ))),
        None => Ok(flows),
    }
}

fn of_yaml(text: &str) -> Result<Vec<Flow>, String> {
    let document = serde_norway::Deserializer::from_str(text);
    let stated: Vec<Stated> = serde_path_to_error::deserialize(document).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        format!("{path}: {inner}; write a list of {{from: NAME, to: NAME, port: NUMBER}}")
    })?;
    let flow = |(n, stated): (usize, Stated)| Flow {
        from: stated.from,
        to: stated.to,
        port: stated.port,
        place: format!("[{n}]"),
    };
    Ok(stated.into_iter().enumerate().map(flow).collect())
}

/// Names have neither commas nor quotes.
fn of_csv(text: &str) -> Result<Vec<Flow>, String> {
    let mut flows = Vec::new();
    let mut columns: Option<[usize; 3]> = None;
    for (n, line) in text.lines().enumerate() {
        let place = format!("line {}", n + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let cells: Vec<_> = line.split(',').map(str::trim).collect();
        let Some([from, to, port]) = columns else {
            let at = |name: &str| cells.iter().position(|cell| *cell == name);
            let all = [at("from"), at("to"), at("port")];
            let [Some(from), Some(to), Some(port)] = all else {
                return Err(format!("{place}: the first line must be from,to,port"));
            };
            columns = Some([from, to, port]);
            continue;
        };
        let cell = |at: usize| cells.get(at).copied().filter(|cell| !cell.is_empty());
        let (Some(from), Some(to), Some(port)) = (cell(from), cell(to), cell(port)) else {
            return Err(format!("{place}: a value is missing; write from,to,port"));
        };
        let port = port
            .parse()
            .map_err(|_| format!("{place}: {port:?} is no port; write a number from 1 to 65535"))?;
        flows.push(Flow {
            from: from.to_owned(),
            to: to.to_owned(),
            port,
            place,
        });
    }
    Ok(flows)
}

/// Judges each flow before and after. A name that neither state knows is an error: it is a slip.
pub(super) fn compare(
    flows: &[Flow],
    file: &Path,
    judge: &Judge<'_>,
    report: &mut Report,
) -> Result<(), CliError> {
    let (mut old, mut new) = (Resolved::of(&judge.old), Resolved::of(&judge.new));
    for flow in flows {
        let states = match (old.state(flow), new.state(flow)) {
            (Err(e), Err(_)) => {
                let place = format!("{}: {}", file.display(), flow.place);
                return Err(match e {
                    QuestionError::Unknown { .. } => CliError::NotFound(format!("{place}: {e}")),
                    _ => CliError::Failed(format!("{place}: {e}")),
                });
            }
            (old, new) => {
                [old, new].map(|state| state.unwrap_or_else(|e| State::gone(e.to_string())))
            }
        };
        let [before, after] = states;
        report.judged(1);
        report.compare(&flow.from, &flow.to, Some(flow.port), before, after, 1);
    }
    Ok(())
}

type Known<T> = Result<T, QuestionError>;

/// One side, with the names that were looked up.
struct Resolved<'a> {
    side: &'a Side<'a>,
    clients: HashMap<String, Known<Vec<Client>>>,
    targets: HashMap<(String, u16), Known<Target>>,
}

impl<'a> Resolved<'a> {
    fn of(side: &'a Side<'a>) -> Self {
        Self {
            side,
            clients: HashMap::new(),
            targets: HashMap::new(),
        }
    }

    fn state(&mut self, flow: &Flow) -> Known<State> {
        let snapshot = self.side.snapshot;
        let clients = self.clients.entry(flow.from.clone());
        let clients = clients.or_insert_with(|| question::clients(snapshot, &flow.from));
        let targets = self.targets.entry((flow.to.clone(), flow.port));
        let target = targets.or_insert_with(|| question::target(snapshot, &flow.to, flow.port));
        match (clients, target) {
            (Ok(clients), Ok(target)) => Ok(self.side.state(clients, target)),
            (Err(e), _) | (_, Err(e)) => Err(e.clone()),
        }
    }
}
