//! As much of a kubelet as port-forward needs: TLS, an upgrade to a websocket, and two channels for the
//! port, one for data and one for errors.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::{SinkExt as _, StreamExt as _};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const PROTOCOL: &str = "v4.channel.k8s.io";
const DATA: u8 = 0;
const ERRORS: u8 = 1;

/// Starts one whose pods all lead to `pod`; its port.
pub(crate) async fn start(pod: SocketAddr) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["kubelet".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(acceptor.clone(), stream, pod));
        }
    });
    port
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, pod: SocketAddr) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut asked_for = None;
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let choose = |request: &Request, mut response: Response| {
        let query = request.uri().query().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        asked_for = pairs
            .find(|(key, _)| *key == "port")
            .map(|(_, port)| port.parse::<u16>());
        let protocol = PROTOCOL.parse().unwrap();
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, choose)
        .await
        .unwrap();
    let port = asked_for.unwrap().unwrap();
    forward(socket, port, pod).await;
}

async fn forward<S>(mut socket: WebSocketStream<S>, port: u16, pod: SocketAddr)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let frame = |channel: u8, bytes: &[u8]| Message::binary([&[channel], bytes].concat());
    for channel in [DATA, ERRORS] {
        let opened = socket.send(frame(channel, &port.to_le_bytes())).await;
        opened.unwrap();
    }
    let mut inside = match TcpStream::connect(pod).await {
        Ok(inside) => inside,
        Err(e) => {
            let reason = format!("error forwarding port {port} to pod: {e}");
            socket.send(frame(ERRORS, reason.as_bytes())).await.unwrap();
            return end(socket).await;
        }
    };
    let mut block = vec![0; 32 << 10];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&DATA) => {
                    inside.write_all(&bytes[1..]).await.unwrap();
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            read = inside.read(&mut block) => match read {
                Ok(0) | Err(_) => return end(socket).await,
                Ok(n) if socket.send(frame(DATA, &block[..n])).await.is_err() => return,
                Ok(_) => {}
            },
        }
    }
}

/// Says that it ends, and takes what still comes: the reset that it were answered with would lose what was
/// said before.
async fn end<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}
