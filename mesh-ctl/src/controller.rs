//! Puts the parts together: source -> compile -> world -> discovery and certificates.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_common::proto::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use mesh_common::proto::xds::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::auth::JwksError;
use crate::ca::{CaError, CertificateService, Follower, bundle};
use crate::compile::{self, compile};
use crate::config::Config;
use crate::kubernetes::{self, ConnectError};
use crate::lease::{self, Lease};
use crate::metrics::Metrics;
use crate::model::{Change, Objects};
use crate::resources::World;
use crate::serve::admin::Admin;
use crate::serve::tls::{self, Serving, ServingError};
use crate::source::{DirectorySource, Problems, Sink};
use crate::xds::server::Discovery;

/// What a node says about the resources it holds when it reconnects may be this large.
const MAX_DISCOVERY_REQUEST: usize = 64 << 20;
/// A certificate request is small.
const MAX_CERTIFICATE_REQUEST: usize = 64 << 10;
/// Held by the replica that publishes the root bundle.
const ROOTS_LEASE: &str = "weft-root-bundle";
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
    /// There is no way to the API server.
    #[error(transparent)]
    Kubernetes(#[from] ConnectError),
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

/// The object store's reader: compiles each state and publishes what changed.
struct Publisher {
    options: compile::Options,
    objects: Objects,
    worlds: watch::Sender<Arc<World>>,
    warnings: watch::Sender<Arc<BTreeSet<String>>>,
    metrics: Metrics,
}

impl Sink for Publisher {
    fn replace(&mut self, objects: Objects) {
        self.objects = objects;
        self.publish();
    }

    fn change(&mut self, changes: Vec<Change>) {
        self.objects.apply(changes);
        self.publish();
    }
}

impl Publisher {
    fn publish(&self) {
        let mut compiled = compile(&self.objects, &self.options);
        let warnings = std::mem::take(&mut compiled.warnings);
        for line in warnings.difference(&self.warnings.borrow()) {
            tracing::warn!("{line}");
        }
        self.warnings.send_replace(Arc::new(warnings));
        let next = self.worlds.borrow().next(compiled);
        if let Some(world) = next {
            self.metrics.compiled(&world);
            tracing::info!(generation = world.generation(), "the mesh changed");
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
    /// Reads everything, then serves.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let metrics = Metrics::default();
        let kubeconfig = config.kubeconfig.as_ref();
        let store = config.ca.store(kubeconfig).await?;
        let (authority, follower) =
            Follower::open(store, config.lifetimes.cert_ttl, metrics.clone()).await?;
        let client = match config.auth.source.token_review || config.publication.publish_roots {
            true => Some(kubernetes::connect(kubeconfig).await?),
            false => None,
        };
        let reviews = client.clone().filter(|_| config.auth.source.token_review);
        let authenticator = Arc::new(config.auth.authenticator(reviews)?);
        let (worlds, world) = watch::channel(Arc::new(World::default()));
        let (warnings, warned) = watch::channel(Arc::default());
        let mut publisher = Publisher {
            options: config.compile_options(),
            objects: Objects::default(),
            worlds,
            warnings,
            metrics: metrics.clone(),
        };
        let (source, objects) = DirectorySource::open(config.config_dir.clone(), metrics.clone())?;
        publisher.replace(objects);

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
            stop.clone(),
        );
        let publisher_of_roots =
            client
                .filter(|_| config.publication.publish_roots)
                .map(|client| {
                    let name = lease::process_name();
                    let lease = Lease::new(
                        client.clone(),
                        client.default_namespace(),
                        ROOTS_LEASE,
                        &name,
                    );
                    let (held, holder) = lease.start(stop.clone());
                    let target = config.bundle_target();
                    let roots = Arc::clone(&authority);
                    let roots = bundle::Publisher::new(client, target, roots, metrics.clone());
                    [holder, tokio::spawn(roots.run(held, stop.clone()))]
                });
        let certificates = CertificateService::new(
            authority,
            authenticator,
            config.trust_domain.clone(),
            config.lifetimes.clone(),
            world.clone(),
            metrics.clone(),
        );
        let grpc = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(
                AggregatedDiscoveryServiceServer::new(discovery)
                    .max_decoding_message_size(MAX_DISCOVERY_REQUEST),
            )
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
            metrics,
        }
        .router();
        let http =
            axum::serve(admin, router).with_graceful_shutdown(stop.clone().cancelled_owned());

        let mut tasks = vec![
            tokio::spawn(follower.run(stop.clone())),
            tokio::spawn(source.run(publisher, stop.clone())),
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
        tasks.extend(publisher_of_roots.into_iter().flatten());
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
