//! `/certificates`: the identities that the agent speaks for.

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin::{CertificateStatus, KeyExchange};

use super::Admin;

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/certificates", get(certificates))
}

async fn certificates(Shared(admin): Shared<Admin>) -> Json<Vec<CertificateStatus>> {
    Json(list(&admin))
}

/// All identities, with what their open tunnels agreed on.
pub(super) fn list(admin: &Admin) -> Vec<CertificateStatus> {
    let mut list = admin.mesh.certificates.list();
    for status in &mut list {
        let groups = admin.mesh.tunnels.groups(&status.identity);
        let exchange = |(group, tunnels): (&str, usize)| KeyExchange {
            group: group.to_owned(),
            tunnels,
        };
        status.key_exchanges = groups.into_iter().map(exchange).collect();
    }
    list
}
