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
/// `istio.v1.auth`: the certificate service.
pub mod auth {
    tonic::include_proto!("istio.v1.auth");
}
/// `envoy.service.discovery.v3`: delta xDS.
pub mod xds {
    tonic::include_proto!("envoy.service.discovery.v3");
}
