//! The certificate service: authenticate, authorize, check the request, sign, and write it down.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_common::identity::{SpiffeId, TrustDomain};
use mesh_common::proto::auth::istio_certificate_service_server::IstioCertificateService;
use mesh_common::proto::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{Authority, CsrError, IssueError, Issued, csr, pem, sign};
use crate::auth::{Authenticator, Caller, Refusal, authorize};
use crate::metrics::Metrics;
use crate::resources::World;

const IMPERSONATED: &str = "ImpersonatedIdentity";
/// A shorter life would be over before the certificate is in use.
const MIN_TTL: Duration = Duration::from_secs(60);

/// The certificate service.
pub struct CertificateService {
    authority: Arc<Authority>,
    authenticator: Arc<Authenticator>,
    trust_domain: TrustDomain,
    max_ttl: Duration,
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
}

impl Fault {
    fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Identity(_) => "no_identity",
            Self::Csr(error) => error.reason(),
            Self::Issue(_) => "signing_failed",
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Refused(refusal) => refusal.into(),
            Self::Identity(_) | Self::Csr(_) => Status::invalid_argument(self.to_string()),
            Self::Issue(_) => Status::internal(self.to_string()),
        }
    }
}

impl CertificateService {
    /// Signs with `authority` for what runs in the current world.
    pub fn new(
        authority: Arc<Authority>,
        authenticator: Arc<Authenticator>,
        trust_domain: TrustDomain,
        max_ttl: Duration,
        worlds: watch::Receiver<Arc<World>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            authority,
            authenticator,
            trust_domain,
            max_ttl,
            worlds,
            metrics,
        }
    }

    fn issue(
        &self,
        caller: &Caller,
        request: &IstioCertificateRequest,
    ) -> Result<(SpiffeId, Issued), Fault> {
        let identity = identity(request, caller, &self.trust_domain)?;
        let world = Arc::clone(&self.worlds.borrow());
        authorize(caller, &identity, &self.trust_domain, &world)?;
        let key = csr::public_key(&request.csr, &identity)?;
        let asked = u64::try_from(request.validity_duration).unwrap_or_default();
        let ttl = match asked {
            0 => self.max_ttl,
            seconds => Duration::from_secs(seconds).max(MIN_TTL).min(self.max_ttl),
        };
        let issued = sign::workload(&self.authority, &identity, &key, ttl)?;
        Ok((identity, issued))
    }

    fn refuse(&self, caller: &str, identity: &str, fault: &Fault) -> Status {
        self.metrics.certificate(fault.reason());
        tracing::warn!(
            caller,
            identity,
            reason = fault.reason(),
            "certificate refused: {fault}"
        );
        fault.status()
    }

    /// Leaf first, roots last.
    fn chain(&self, issued: &Issued) -> Vec<String> {
        let mut chain = vec![pem(&issued.certificate)];
        chain.extend(self.authority.intermediates.iter().map(pem));
        chain.push(self.authority.roots_pem());
        chain
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let asked = match asked_for(request.get_ref()) {
            Some(Kind::StringValue(asked)) => asked.clone(),
            _ => "its own".into(),
        };
        let caller = self
            .authenticator
            .node(request.metadata())
            .map_err(|refusal| {
                let caller = refusal.caller();
                self.refuse(&caller, &asked, &refusal.into())
            })?;
        let (identity, issued) = self
            .issue(&caller, request.get_ref())
            .map_err(|fault| self.refuse(&caller.to_string(), &asked, &fault))?;
        self.metrics.certificate("issued");
        let lifetime = issued
            .not_after
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        tracing::info!(
            %caller, %identity, serial = issued.serial, lifetime_s = lifetime.as_secs(),
            "certificate issued"
        );
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: self.chain(&issued),
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
