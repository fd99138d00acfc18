//! Connections that the kernel refused by itself: counted, not recorded one by one.

use mesh_common::workload::Workload;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::series::series;
use super::{Flag, Observer, Parties, Party, Reporter, Security};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusedLabels {
    namespace: String,
    workload: String,
    policy: String,
}

/// By the workload that they were meant for and the policy that denies them.
pub(super) type Refused = Family<RefusedLabels, Counter>;

impl Observer {
    /// Counts connections in the clear to a workload that the kernel refused because of `policy`; among the
    /// failed ones too, where their source is not known.
    pub fn refused(
        &self,
        namespace: &str,
        workload: Option<&Arc<Workload>>,
        policy: &str,
        count: u64,
    ) {
        let name = workload.map_or("unknown", |workload| &*workload.workload_name);
        let labels = RefusedLabels {
            namespace: namespace.to_owned(),
            workload: name.to_owned(),
            policy: policy.to_owned(),
        };
        self.metrics.refused.get_or_create(&labels).inc_by(count);
        let nobody = Party::unknown(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0));
        let parties = Parties {
            reporter: Reporter::Destination,
            source: nobody.clone(),
            destination: Party {
                workload: workload.cloned(),
                identity: workload.map(|workload| workload.identity()),
                ..nobody
            },
            hbone_address: None,
            service: None,
            security: Security::None,
        };
        let series = series(&self.metrics, &parties, Flag::Denied.label());
        series.failed().inc_by(count);
    }
}
