//! The handshake and the session against rustls' own connections.

mod alerts;
mod flights;
mod traffic;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite, SupportedProtocolVersion,
};
use std::io::{Read as _, Write as _};
use tokio::task::{JoinHandle, spawn_local};

use super::testing::{Authority, Buffers, id, on_worker, socket_pair, svid};
use super::verify::ExpectedServer;
use super::*;

/// What a foreign peer does otherwise than ours.
struct Foreign {
    svid: Svid,
    suites: Vec<SupportedCipherSuite>,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
}

impl Foreign {
    fn new(account: &str) -> Self {
        Self::with(svid(account))
    }

    fn with(svid: Svid) -> Self {
        Self {
            svid,
            suites: aws_lc_rs::default_provider().cipher_suites,
            versions: vec![&TLS13, &TLS12],
            alpn: vec![b"h2".to_vec()],
        }
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(CryptoProvider {
            cipher_suites: self.suites.clone(),
            ..aws_lc_rs::default_provider()
        })
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for root in &svid("client").roots {
            roots.add(root.clone()).unwrap();
        }
        Arc::new(roots)
    }

    /// `certified`: whether it says who it is.
    fn client(&self, certified: bool) -> Connection {
        let provider = self.provider();
        let expected = Arc::new([id("server")]);
        let verifier = ExpectedServer::new(provider.clone(), self.roots(), expected);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match certified {
            true => builder
                .with_client_auth_cert(self.svid.chain.clone(), self.svid.key.clone_key())
                .unwrap(),
            false => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        let name = ServerName::try_from("server.example").unwrap();
        ClientConnection::new(Arc::new(config), name)
            .unwrap()
            .into()
    }

    /// `asks`: whether it asks the client who it is.
    fn server_config(&self, asks: bool) -> ServerConfig {
        let provider = self.provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let verifier = match asks {
            true => verifier.build().unwrap(),
            false => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.svid.chain.clone(), self.svid.key.clone_key())
            .unwrap();
        config.alpn_protocols = self.alpn.clone();
        config
    }

    fn server(&self) -> Connection {
        ServerConnection::new(Arc::new(self.server_config(true)))
            .unwrap()
            .into()
    }
}

/// Everything `tls` has to say now.
fn said(tls: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Hands `bytes` to `tls`, and returns the application data in them.
fn heard(tls: &mut Connection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut data = Vec::new();
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes).unwrap();
        tls.process_new_packets()?;
        // There is no more for now.
        let _ = tls.reader().read_to_end(&mut data);
    }
    Ok(data)
}

/// Makes the handshake of `tls`; what it says last is not sent.
async fn shake(tls: &mut Connection, socket: &Socket) -> Result<(), rustls::Error> {
    let mut buffer = vec![0; 4096];
    while tls.is_handshaking() {
        socket.write_all(&said(tls)).await.unwrap();
        if tls.is_handshaking() {
            match socket.read(&mut buffer).await.unwrap() {
                0 => return Err(rustls::Error::HandshakeNotComplete),
                read => heard(tls, &buffer[..read])?,
            };
        }
    }
    Ok(())
}

type Ours = JoinHandle<Result<Authenticated, PeerError>>;

fn our_server() -> (Ours, Socket) {
    let (near, far) = socket_pair(Buffers::Usual);
    let ours = async move { server(&svid("server"), near).await };
    (spawn_local(ours), far)
}

fn our_client() -> (Ours, Socket) {
    let (near, far) = socket_pair(Buffers::Usual);
    let ours = async move { client(&svid("client"), Arc::new([id("server")]), near).await };
    (spawn_local(ours), far)
}

/// Which end is ours.
#[derive(Clone, Copy, Debug)]
enum End {
    Client,
    Server,
}

/// A session of ours and the connection at its other end, right after their handshake.
async fn ends(ours: End, mut theirs: Connection) -> (Session, Connection) {
    let (ours, socket) = match ours {
        End::Client => our_client(),
        End::Server => our_server(),
    };
    shake(&mut theirs, &socket).await.unwrap();
    socket.write_all(&said(&mut theirs)).await.unwrap();
    let ours = ours.await.unwrap().unwrap();
    let (mut session, mut rest) = (ours.session, ours.unread);
    // Tickets of a server that has sent some; then there is no more for now.
    let _ = ours.socket.get().read_to_end(&mut rest);
    assert_eq!(opened(&mut session, rest), b"");
    (session, theirs)
}

/// The application data in whole records.
fn opened(session: &mut Session, mut bytes: Vec<u8>) -> Vec<u8> {
    let (mut at, mut data) = (0, Vec::new());
    while at < bytes.len() {
        match session.open(&mut bytes[at..]).unwrap() {
            Opened::Data { content, length } => {
                data.extend_from_slice(&bytes[at..][content]);
                at += length;
            }
            Opened::Internal { length } => at += length,
            other => panic!("{other:?}"),
        }
    }
    data
}

/// A record of ours.
fn sealed(session: &mut Session, content: &[u8]) -> Vec<u8> {
    let mut record = vec![0; HEADER + content.len() + TRAILER];
    record[HEADER..HEADER + content.len()].copy_from_slice(content);
    session.seal(&mut record, content.len()).unwrap();
    record
}
