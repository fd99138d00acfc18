//! Puts the parts together: source -> compile -> world -> discovery and certificates.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_common::proto::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::auth::{Authenticator, Jwks, JwksError};
use crate::ca::{Authority, CaError, CertificateService};
use crate::compile::Compiler;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::model::{Change, Objects};
use crate::resources::{Step, World};
use crate::serve::admin::Admin;
use crate::serve::tls::{self, Serving, ServingError};
use crate::source::{DirectorySource, Problems, Sink};
use crate::xds::server::Discovery;
use crate::xds::status::Clients;

/// A certificate request is small.
const MAX_CERTIFICATE_REQUEST: usize = 64 << 10;
/// A node has one discovery stream, and few requests for certificates at a time.
const MAX_STREAMS: u32 = 64;
const MAX_HEADERS: u32 = 16 << 10;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Streams are told to end; what has not by then is cut.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// The controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration directory is invalid; one line for each problem.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// The certificate authority is unusable.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The token keys are unusable.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// No serving certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Listen {
        /// The option that gave it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Compiles what a source finds, and publishes what changed.
pub struct Publisher {
    compiler: Compiler,
    worlds: watch::Sender<Arc<World>>,
    warnings: watch::Sender<Arc<BTreeSet<String>>>,
    metrics: Metrics,
}

impl Sink for Publisher {
    fn replace(&mut self, objects: Objects) {
        let at = Instant::now();
        let step = self.compiler.replace(objects);
        self.publish(step, at);
    }

    fn change(&mut self, changes: Vec<Change>) {
        let at = Instant::now();
        let step = self.compiler.change(changes);
        self.publish(step, at);
    }
}

impl Publisher {
    fn publish(&mut self, step: Step, at: Instant) {
        if let Some(warnings) = self.compiler.take_changed_warnings() {
            for line in warnings.difference(&self.warnings.borrow()) {
                tracing::warn!("{line}");
            }
            self.warnings.send_replace(Arc::new(warnings));
        }
        let next = self.worlds.borrow().next(step, at);
        if let Some(world) = next {
            self.metrics.compiled(&world, at.elapsed());
            tracing::debug!(generation = world.generation(), "the mesh changed");
            self.worlds.send_replace(Arc::new(world));
        }
    }
}

/// A running controller.
pub struct Controller {
    /// Where the gRPC port really listens.
    pub address: SocketAddr,
    /// Where the admin endpoints really listen.
    pub admin_address: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Controller {
    /// Reads the configured source, then serves.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let metrics = Metrics::default();
        let (source, objects) = DirectorySource::open(config.config_dir.clone(), metrics.clone())?;
        Self::serve(config, metrics, |mut publisher, stop| {
            publisher.replace(objects);
            source.run(publisher, stop)
        })
        .await
    }

    /// Serves what `feed` publishes; it runs until its token is cancelled.
    pub async fn serve<F>(
        config: Config,
        metrics: Metrics,
        feed: impl FnOnce(Publisher, CancellationToken) -> F,
    ) -> Result<Self, StartError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let authority = Arc::new(Authority::open(&config.ca_dir)?);
        let jwks = Jwks::open(config.jwks_file.clone())?;
        let authenticator = Arc::new(Authenticator::new(
            jwks,
            config.token_audience.clone(),
            config.token_issuer.clone(),
            config.node_account.clone(),
        ));
        let (worlds, world) = watch::channel(Arc::new(World::default()));
        let (warnings, warned) = watch::channel(Arc::default());
        let publisher = Publisher {
            compiler: Compiler::new(config.compile_options()),
            worlds,
            warnings,
            metrics: metrics.clone(),
        };
        let clients = Clients::default();
        let serving = Serving::new(Arc::clone(&authority), config.server_name.clone())?;
        let listener = listen("--listen", config.listen).await?;
        let admin = listen("--admin-addr", config.admin_addr).await?;
        let (address, admin_address) = (
            local(&listener, config.listen),
            local(&admin, config.admin_addr),
        );
        let connections = tls::accept(listener, serving.config()?, stop.clone());

        let discovery = Discovery::new(
            world.clone(),
            Arc::clone(&authenticator),
            metrics.clone(),
            clients.clone(),
            config.discovery.clone(),
            stop.clone(),
        );
        let certificates = CertificateService::new(
            authority,
            authenticator,
            config.trust_domain,
            config.cert_ttl,
            world.clone(),
            metrics.clone(),
        );
        let grpc = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .add_service(discovery)
            .add_service(
                IstioCertificateServiceServer::new(certificates)
                    .max_decoding_message_size(MAX_CERTIFICATE_REQUEST),
            )
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                stop.clone().cancelled_owned(),
            );
        let router = Admin {
            worlds: world,
            warnings: warned,
            clients,
            metrics,
        }
        .router();
        let http =
            axum::serve(admin, router).with_graceful_shutdown(stop.clone().cancelled_owned());

        let tasks = vec![
            tokio::spawn(feed(publisher, stop.clone())),
            tokio::spawn(serving.keep_fresh(stop.clone())),
            tokio::spawn(async move {
                if let Err(e) = grpc.await {
                    tracing::error!(error = %e, "the gRPC server failed");
                }
            }),
            tokio::spawn(async move {
                if let Err(e) = http.await {
                    tracing::error!(error = %e, "the admin server failed");
                }
            }),
        ];
        tracing::info!(%address, %admin_address, "serving");
        Ok(Self {
            address,
            admin_address,
            stop,
            tasks,
        })
    }

    /// Ends every stream with a reason and waits for what is under way, for a bounded time.
    pub async fn shutdown(self) {
        self.stop.cancel();
        let all = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(SHUTDOWN, all).await.is_err() {
            tracing::warn!(after = ?SHUTDOWN, "connections that did not end are cut");
        }
    }
}

async fn listen(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| StartError::Listen {
        flag,
        address,
        source,
    })
}

fn local(listener: &TcpListener, wanted: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(wanted)
}
