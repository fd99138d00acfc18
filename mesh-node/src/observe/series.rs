//! The time series of connections, found again without building their labels.
//!
//! A series has 23 labels; hashing and comparing them for every connection would cost more than the
//! connection's own bookkeeping. Each thread remembers the series of the parties that it saw.

use mesh_common::identity::SpiffeId;
use mesh_common::workload::{Service, Workload};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Metrics;
use super::metrics::TcpLabels;
use super::same::Same;
use super::{Parties, Reporter, Security};

/// Series that a thread remembers; then it starts anew.
const REMEMBERED: usize = 4096;

/// All that the labels are made of.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    metrics: Same<Metrics>,
    reporter: Reporter,
    source: (Same<Workload>, Option<SpiffeId>),
    destination: (Same<Workload>, Option<SpiffeId>),
    service: Same<Service>,
    security: Security,
    flags: &'static str,
}

/// The series of one kind of connection. Each begins to exist when it is first asked for.
#[derive(Debug)]
pub(super) struct Series {
    metrics: Arc<Metrics>,
    labels: TcpLabels,
    opened: OnceCell<Counter>,
    closed: OnceCell<Counter>,
    failed: OnceCell<Counter>,
    received: OnceCell<Counter>,
    sent: OnceCell<Counter>,
}

impl Series {
    fn get<'a>(
        &self,
        place: &'a OnceCell<Counter>,
        family: &Family<TcpLabels, Counter>,
    ) -> &'a Counter {
        place.get_or_init(|| family.get_or_create(&self.labels).clone())
    }

    pub(super) fn opened(&self) -> &Counter {
        self.get(&self.opened, &self.metrics.opened)
    }

    pub(super) fn closed(&self) -> &Counter {
        self.get(&self.closed, &self.metrics.closed)
    }

    pub(super) fn failed(&self) -> &Counter {
        self.get(&self.failed, &self.metrics.failed)
    }

    pub(super) fn received(&self) -> &Counter {
        self.get(&self.received, &self.metrics.received)
    }

    pub(super) fn sent(&self) -> &Counter {
        self.get(&self.sent, &self.metrics.sent)
    }
}

thread_local! {
    static SERIES: RefCell<HashMap<Key, Rc<Series>>> = RefCell::default();
}

/// The series of connections between `parties` that have these response flags.
pub(super) fn series(metrics: &Arc<Metrics>, parties: &Parties, flags: &'static str) -> Rc<Series> {
    let (source, destination) = (&parties.source, &parties.destination);
    let key = Key {
        metrics: Same(Some(metrics.clone())),
        reporter: parties.reporter,
        source: (Same(source.workload.clone()), source.identity.clone()),
        destination: (
            Same(destination.workload.clone()),
            destination.identity.clone(),
        ),
        service: Same(parties.service.clone()),
        security: parties.security,
        flags,
    };
    SERIES.with_borrow_mut(|known| {
        if let Some(series) = known.get(&key) {
            return series.clone();
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let series = Rc::new(Series {
            metrics: metrics.clone(),
            labels: TcpLabels::new(parties, flags),
            opened: OnceCell::new(),
            closed: OnceCell::new(),
            failed: OnceCell::new(),
            received: OnceCell::new(),
            sent: OnceCell::new(),
        });
        known.insert(key, series.clone());
        series
    })
}
