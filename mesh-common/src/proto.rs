//! Generated wire types; see `proto/*.proto` for the meaning and units of each field.
#![allow(
    missing_docs,
    clippy::all,
    reason = "generated from proto/, documented there"
)]
#![allow(clippy::allow_attributes_without_reason, reason = "generated")]
#![allow(
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    reason = "generated"
)]

/// `istio.workload`: workload discovery.
pub mod workload {
    tonic::include_proto!("istio.workload");
}
/// `istio.security`: authorization policies.
pub mod security {
    tonic::include_proto!("istio.security");
}
/// What Weft adds to the interface.
pub mod weft {
    /// `weft.enrolment`: which pods of a node are in the mesh.
    pub mod enrolment {
        tonic::include_proto!("weft.enrolment");
    }
    /// `weft.policy`: AUDIT policies, for which the interface has no action.
    pub mod policy {
        tonic::include_proto!("weft.policy");
    }
}
/// Where generated code of another package looks for these.
mod istio {
    pub(super) use super::security;
}
/// `istio.v1.auth`: the certificate service.
pub mod auth {
    tonic::include_proto!("istio.v1.auth");
}
/// `envoy.service.discovery.v3`: delta xDS.
pub mod xds {
    tonic::include_proto!("envoy.service.discovery.v3");
}
