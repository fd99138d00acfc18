//! The kinds that are watched, and where the API server serves them.

use crate::model::{Change, Object};

/// One kind of the API.
#[derive(Debug)]
pub(super) struct Resource {
    /// As in [`Object::identity`].
    pub(super) kind: &'static str,
    /// With the versions that Weft reads, the preferred one first.
    paths: &'static [&'static str],
    /// Spares what Weft would leave out.
    pub(super) selector: Option<&'static str>,
    /// A server may not have it: it is waited for.
    pub(super) optional: bool,
    /// What a policy is for must not be seen without it.
    pub(super) policy: bool,
}

/// Every kind, in the order in which changes of one batch are handed on: what others depend on comes
/// first, pods come last.
pub(super) const ALL: [Resource; 8] = [
    Resource {
        policy: true,
        ..optional(
            "AuthorizationPolicy",
            &[
                "/apis/security.istio.io/v1/authorizationpolicies",
                "/apis/security.istio.io/v1beta1/authorizationpolicies",
            ],
        )
    },
    Resource {
        policy: true,
        ..optional(
            "PeerAuthentication",
            &[
                "/apis/security.istio.io/v1/peerauthentications",
                "/apis/security.istio.io/v1beta1/peerauthentications",
            ],
        )
    },
    core("Namespace", &["/api/v1/namespaces"]),
    core("Node", &["/api/v1/nodes"]),
    core("ServiceAccount", &["/api/v1/serviceaccounts"]),
    core("Service", &["/api/v1/services"]),
    Resource {
        // Pods say the same, and there are as many of them.
        selector: Some("endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io"),
        ..optional(
            "EndpointSlice",
            &[
                "/apis/discovery.k8s.io/v1/endpointslices",
                "/apis/discovery.k8s.io/v1beta1/endpointslices",
            ],
        )
    },
    core("Pod", &["/api/v1/pods"]),
];

const fn core(kind: &'static str, paths: &'static [&'static str]) -> Resource {
    Resource {
        kind,
        paths,
        selector: None,
        optional: false,
        policy: false,
    }
}

const fn optional(kind: &'static str, paths: &'static [&'static str]) -> Resource {
    Resource {
        optional: true,
        ..core(kind, paths)
    }
}

impl Resource {
    /// Where it may be served, the preferred place first.
    pub(super) fn paths(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.paths.iter().copied()
    }
}

/// The place of a change within its batch. A policy that goes does so after everything else.
pub(super) fn rank(change: &Change) -> usize {
    let (kind, removed) = match change {
        Change::Set(object) => (Object::identity(object).0, false),
        Change::Removed(kind, _) => (*kind, true),
    };
    let index = ALL.iter().position(|resource| resource.kind == kind);
    let index = index.unwrap_or(ALL.len());
    match ALL.get(index) {
        Some(resource) if resource.policy && removed => ALL.len() + index,
        _ => index,
    }
}
