//! The certificate service: authenticate, authorize, check the request, sign, and write it down.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_common::identity::{SpiffeId, TrustDomain};
use mesh_common::proto::auth::istio_certificate_service_server::IstioCertificateService;
use mesh_common::proto::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::options::Lifetimes;
use super::{Authority, CsrError, IssueError, Issued, Signer, csr, pem, sign};
use crate::auth::{Authenticator, Caller, Refusal, authorize};
use crate::metrics::Metrics;
use crate::resources::World;
use crate::serve::connection::Peer;

const IMPERSONATED: &str = "ImpersonatedIdentity";
/// Every certificate, and every refusal of one, is a log line of this target.
const AUDIT: &str = "audit";

/// The certificate service.
pub struct CertificateService {
    authority: Arc<Authority>,
    authenticator: Arc<Authenticator>,
    trust_domain: TrustDomain,
    lifetimes: Lifetimes,
    worlds: watch::Receiver<Arc<World>>,
    metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the metadata of the request must name the SPIFFE ID asked for as {IMPERSONATED}: {0}")]
    Identity(String),
    #[error("{0}")]
    Csr(#[from] CsrError),
    #[error("{0}")]
    Issue(#[from] IssueError),
    #[error("it is not known yet what runs where; try again, or ask another replica")]
    NotSynced,
}

impl Fault {
    fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Identity(_) => "no_identity",
            Self::Csr(error) => error.reason(),
            Self::Issue(_) => "signing_failed",
            Self::NotSynced => "not_synced",
        }
    }

    /// `failed` is the controller's fault, `refused` the caller's.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Issue(_) | Self::NotSynced => "failed",
            Self::Refused(refusal) if refusal.is_unavailable() => "failed",
            Self::Refused(_) | Self::Identity(_) | Self::Csr(_) => "refused",
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Refused(refusal) => refusal.into(),
            Self::Identity(_) | Self::Csr(_) => Status::invalid_argument(self.to_string()),
            Self::Issue(_) => Status::internal(self.to_string()),
            Self::NotSynced => Status::unavailable(self.to_string()),
        }
    }
}

/// What is known of a request, for the audit log.
struct Asked<'a> {
    identity: &'a str,
    peer: Option<IpAddr>,
}

impl CertificateService {
    /// Signs with `authority` for what runs in the current world.
    pub fn new(
        authority: Arc<Authority>,
        authenticator: Arc<Authenticator>,
        trust_domain: TrustDomain,
        lifetimes: Lifetimes,
        worlds: watch::Receiver<Arc<World>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            authority,
            authenticator,
            trust_domain,
            lifetimes,
            worlds,
            metrics,
        }
    }

    fn issue(
        &self,
        signer: &Signer,
        caller: &Caller,
        request: &IstioCertificateRequest,
    ) -> Result<(SpiffeId, Issued), Fault> {
        self.authenticator.admit(caller)?;
        let identity = identity(request, caller, &self.trust_domain)?;
        let world = Arc::clone(&self.worlds.borrow());
        if world.generation() == 0 {
            return Err(Fault::NotSynced);
        }
        authorize(caller, &identity, &self.trust_domain, &world)?;
        let key = csr::public_key(&request.csr, &identity)?;
        let asked = u64::try_from(request.validity_duration).unwrap_or_default();
        let asked = (asked > 0).then(|| Duration::from_secs(asked));
        let ttl = self.lifetimes.clip(asked);
        let issued = sign::workload(signer, &identity, &key, ttl, SystemTime::now())?;
        Ok((identity, issued))
    }

    fn refuse(&self, caller: &str, node: &str, asked: &Asked<'_>, fault: &Fault) -> Status {
        let (outcome, reason) = (fault.outcome(), fault.reason());
        self.metrics.certificate(outcome, reason);
        let peer = asked.peer.map(|peer| peer.to_string()).unwrap_or_default();
        if matches!(fault, Fault::Refused(Refusal::TooMany { .. })) {
            // It was said when it began.
            tracing::debug!(target: AUDIT, caller, node, peer, outcome, reason, "certificate refused");
        } else {
            tracing::warn!(
                target: AUDIT, caller, node, peer, identity = asked.identity, outcome, reason,
                "certificate refused: {fault}"
            );
        }
        fault.status()
    }

    /// Leaf first, roots last.
    fn chain(signer: &Signer, issued: &Issued) -> Vec<String> {
        let mut chain = vec![pem(&issued.certificate)];
        chain.extend(signer.intermediates.iter().map(pem));
        chain.push(signer.roots_pem());
        chain
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let identity = match asked_for(request.get_ref()) {
            Some(Kind::StringValue(asked)) => asked.clone(),
            _ => "its own".into(),
        };
        let asked = Asked {
            identity: &identity,
            peer: request
                .extensions()
                .get::<Peer>()
                .map(|peer| peer.address.ip()),
        };
        let caller = self
            .authenticator
            .node(request.metadata(), asked.peer)
            .await
            .map_err(|refusal| {
                let caller = refusal.caller();
                self.refuse(&caller, "", &asked, &refusal.into())
            })?;
        let signer = self.authority.current();
        let issued = self.issue(&signer, &caller, request.get_ref());
        let (identity, issued) = issued.map_err(|fault| {
            if fault.outcome() == "refused" {
                self.authenticator.refused(&caller);
            }
            self.refuse(&caller.to_string(), &caller.node, &asked, &fault)
        })?;
        self.metrics.certificate("issued", "none");
        tracing::info!(
            target: AUDIT, %caller, node = caller.node, %identity, serial = issued.serial,
            not_after = %humantime::format_rfc3339_seconds(issued.not_after), outcome = "issued",
            "certificate issued"
        );
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: Self::chain(&signer, &issued),
        }))
    }
}

/// The identity that a node asks for on behalf of a workload; none asks for the caller's own.
fn asked_for(request: &IstioCertificateRequest) -> Option<&Kind> {
    let metadata = request.metadata.as_ref()?;
    metadata.fields.get(IMPERSONATED)?.kind.as_ref()
}

fn identity(
    request: &IstioCertificateRequest,
    caller: &Caller,
    trust_domain: &TrustDomain,
) -> Result<SpiffeId, Fault> {
    match asked_for(request) {
        Some(Kind::StringValue(asked)) => asked
            .parse()
            .map_err(|e| Fault::Identity(format!("{asked:?}: {e}"))),
        Some(_) => Err(Fault::Identity("it is not a string".into())),
        None => SpiffeId::new(trust_domain, &caller.namespace, &caller.service_account)
            .map_err(|e| Fault::Identity(format!("there is none, and the caller's own: {e}"))),
    }
}
