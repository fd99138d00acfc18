//! A hand-made HBONE client, to say to port 15008 what a correct agent never would.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use http::{Method, Request, Uri};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What to do once connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Manner {
    /// TLS with the certificate given, then one request.
    Request,
    /// Bytes that are no ClientHello.
    Garbage,
    /// TLS without a certificate.
    NoCertificate,
    /// TLS 1.2.
    OldTls,
    /// TLS with the certificate, then bytes that are no HTTP/2.
    NotHttp2,
    /// Connect and say nothing.
    Silent,
}

#[derive(Args)]
pub(crate) struct Hbone {
    server: SocketAddr,
    #[arg(long, value_enum, default_value = "request")]
    manner: Manner,
    /// PEM file with certificate chain and key.
    #[arg(long)]
    svid: Option<PathBuf>,
    #[arg(long, default_value = "CONNECT")]
    method: Method,
    #[arg(long)]
    authority: Option<String>,
    /// The `forwarded` header.
    #[arg(long)]
    forwarded: Option<String>,
    /// Sent through the tunnel; the first bytes that come back are printed.
    #[arg(long)]
    say: Option<String>,
}

pub(crate) fn run(hbone: &Hbone) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answered = runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(40), converse(hbone)).await });
    match answered {
        Ok(Ok(line)) => println!("{line}"),
        Ok(Err(e)) => println!("closed: {e:#}"),
        Err(_) => println!("no answer"),
    }
    Ok(())
}

async fn converse(hbone: &Hbone) -> Result<String> {
    let mut tcp = TcpStream::connect(hbone.server).await.context("connect")?;
    match hbone.manner {
        Manner::Garbage => {
            tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
            return until_closed(tcp).await;
        }
        Manner::Silent => return until_closed(tcp).await,
        _ => {}
    }
    let svid = hbone
        .svid
        .as_deref()
        .filter(|_| hbone.manner != Manner::NoCertificate);
    let config = client_config(svid, hbone.manner == Manner::OldTls)?;
    let name = ServerName::IpAddress(hbone.server.ip().into());
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .context("tls")?;
    if hbone.manner == Manner::NotHttp2 {
        tls.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        return until_closed(tls).await;
    }
    let group = tls
        .get_ref()
        .1
        .negotiated_key_exchange_group()
        .map(rustls::crypto::SupportedKxGroup::name);
    let (mut sender, connection) = h2::client::handshake(tls).await.context("http/2")?;
    let driver = tokio::spawn(connection);
    let mut request = Request::new(());
    *request.method_mut() = hbone.method.clone();
    let authority = hbone
        .authority
        .clone()
        .unwrap_or_else(|| hbone.server.to_string());
    *request.uri_mut() = if hbone.method == Method::CONNECT {
        Uri::try_from(authority)?
    } else {
        Uri::try_from(format!("https://{authority}/"))?
    };
    if let Some(value) = &hbone.forwarded {
        request.headers_mut().insert("forwarded", value.parse()?);
    }
    let (response, mut send) = sender.send_request(request, hbone.say.is_none())?;
    let response = response.await.context("response")?;
    let mut line = format!("status {}", response.status().as_u16());
    if let Some(group) = group {
        line.push_str(&format!(" group {group:?}"));
    }
    if let Some(text) = &hbone.say
        && response.status().is_success()
    {
        send.send_data(text.clone().into_bytes().into(), true)?;
        if let Some(data) = response.into_body().data().await {
            line.push_str(&format!(
                " heard {}",
                String::from_utf8_lossy(&data?).trim()
            ));
        }
    }
    driver.abort();
    Ok(line)
}

async fn until_closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> Result<String> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.context("reset")?;
    Ok(format!("closed after {} bytes", heard.len()))
}

/// Mutual TLS as a peer would, with this certificate.
pub(crate) async fn tls(
    server: SocketAddr,
    svid: &Path,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server).await.context("connect")?;
    let config = client_config(Some(svid), false)?;
    let name = ServerName::IpAddress(server.ip().into());
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .context("tls")
}

fn client_config(svid: Option<&Path>, old: bool) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let version = if old {
        &rustls::version::TLS12
    } else {
        &rustls::version::TLS13
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    let mut config = match svid {
        Some(path) => {
            let chain = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(path)?)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.enable_sni = false;
    Ok(config)
}

/// This client is the attacker: it does not care who answers.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
