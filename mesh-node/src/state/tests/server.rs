//! A controller that does what each test tells it.

use super::pki::{DAY, Pki, Validity};
use super::soon;
use crate::state::StateOptions;
use mesh_common::proto::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use mesh_common::proto::auth::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_common::proto::xds::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_common::proto::xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

pub(super) const TOKEN: &str = "the-right-token";

/// How the certificate service answers.
pub(super) type Sign =
    Box<dyn Fn(&Pki, &IstioCertificateRequest) -> Result<Vec<String>, Status> + Send>;

pub(super) fn valid_for(validity: Validity) -> Sign {
    Box::new(move |pki, request| {
        Ok(vec![
            pki.sign(&request.csr, validity),
            pki.certificate.clone(),
        ])
    })
}

struct Shared {
    pki: Pki,
    streams: mpsc::UnboundedSender<Stream>,
    sign: Mutex<Sign>,
    asked: Mutex<Vec<(MetadataMap, IstioCertificateRequest)>>,
}

/// One discovery stream, driven by the test.
pub(super) struct Stream {
    pub(super) metadata: MetadataMap,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Stream {
    pub(super) async fn request(&mut self) -> DeltaDiscoveryRequest {
        soon("a request", self.requests.message())
            .await
            .unwrap()
            .unwrap()
    }

    /// None when the agent is gone.
    pub(super) async fn request_or_end(&mut self) -> Option<DeltaDiscoveryRequest> {
        self.requests.message().await.ok().flatten()
    }

    pub(super) async fn send(&self, response: DeltaDiscoveryResponse) {
        self.responses.send(Ok(response)).await.unwrap();
    }
}

/// The controller and the files of an agent that knows it.
pub(super) struct Controller {
    shared: Arc<Shared>,
    streams: mpsc::UnboundedReceiver<Stream>,
    address: SocketAddr,
    runtime: Option<Runtime>,
    files: TempDir,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Controller {
    /// Files and an address, nothing listening.
    pub(super) fn down() -> Self {
        let files = tempfile::tempdir().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let pki = Pki::root("root");
        std::fs::write(files.path().join("ca.pem"), &pki.certificate).unwrap();
        std::fs::write(files.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let shared = Shared {
            pki,
            streams: sender,
            sign: Mutex::new(valid_for(DAY)),
            asked: Mutex::default(),
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        Self {
            shared: Arc::new(shared),
            streams,
            address,
            runtime: None,
            files,
        }
    }

    pub(super) fn up() -> Self {
        let mut controller = Self::down();
        controller.start();
        controller
    }

    pub(super) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )
        .unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        socket.listen(16).unwrap();
        let (certificate, key) = self.shared.pki.server();
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        let service = Service(self.shared.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(socket.into()).unwrap();
            Server::builder()
                .tls_config(tls)
                .unwrap()
                .add_service(AggregatedDiscoveryServiceServer::new(service.clone()))
                .add_service(IstioCertificateServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Ends every connection with the process, so to speak.
    pub(super) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(super) fn options(&self) -> StateOptions {
        StateOptions {
            node_name: "node-1".into(),
            cluster_id: "cluster-1".into(),
            trust_domain: "cluster.local".parse().unwrap(),
            controller: format!("https://{}", self.address),
            controller_ca: self.file("ca.pem"),
            token_file: self.file("token"),
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The next stream that an agent opens.
    pub(super) async fn stream(&mut self) -> Stream {
        soon("a stream", self.streams.recv()).await.unwrap()
    }

    pub(super) fn sign_by(&self, sign: Sign) {
        *self.shared.sign.lock().unwrap() = sign;
    }

    /// The requests for certificates so far.
    pub(super) fn asked(&self) -> Vec<(MetadataMap, IstioCertificateRequest)> {
        self.shared.asked.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

fn authenticate(metadata: &MetadataMap) -> Result<(), Status> {
    match metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok())
    {
        Some(value) if value == format!("Bearer {TOKEN}") => Ok(()),
        _ => Err(Status::unauthenticated("token signature is wrong")),
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        authenticate(request.metadata())?;
        let metadata = request.metadata().clone();
        let (responses, outgoing) = mpsc::channel(16);
        let stream = Stream {
            metadata,
            requests: request.into_inner(),
            responses,
        };
        self.0
            .streams
            .send(stream)
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        authenticate(request.metadata())?;
        let metadata = request.metadata().clone();
        let request = request.into_inner();
        self.0
            .asked
            .lock()
            .unwrap()
            .push((metadata, request.clone()));
        let cert_chain = (self.0.sign.lock().unwrap())(&self.0.pki, &request)?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}
