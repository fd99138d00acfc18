//! Peers for tests: SVIDs of one authority, and connections over loopback.

use mesh_common::identity::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::PrivateKeyDer;
use socket2::{Domain, Socket as RawSocket, Type};
use std::future::Future;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};
use tokio::task::LocalSet;

use super::Authenticated;
use crate::socket::{CongestionControl, Socket};
use crate::state::Svid;

/// Far more than any test takes; reached only by one that hangs.
const DEADLINE: Duration = Duration::from_secs(300);
/// A small buffer of the kernel, bytes.
const SMALL: usize = 32 << 10;
/// A validity that no test outlives.
pub(crate) const FAR: Duration = Duration::from_secs(3600);

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("mesh"));

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: rustls_pki_types::CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    /// The SVID of a service account in the namespace `shop`.
    pub(crate) fn svid(&self, account: &str) -> Svid {
        let identity = id(account);
        Svid {
            identity: identity.clone(),
            ..self.certified(&[identity.as_str()], SystemTime::now() + FAR)
        }
    }

    /// A certificate for these URIs that ends at `not_after`, in place of an SVID.
    pub(crate) fn certified(&self, uris: &[&str], not_after: SystemTime) -> Svid {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_after = not_after.into();
        for uri in uris {
            let uri = (*uri).try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Svid {
            identity: id("certified"),
            chain: vec![leaf],
            key: Arc::new(PrivateKeyDer::try_from(key.serialize_der()).unwrap()),
            roots: vec![self.root.clone()],
            not_before: SystemTime::now() - FAR,
            not_after,
        }
    }
}

/// The identity of a service account in the namespace `shop`.
pub(crate) fn id(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/{account}")
        .parse()
        .unwrap()
}

/// An SVID of the authority that all tests share.
pub(crate) fn svid(account: &str) -> Svid {
    AUTHORITY.svid(account)
}

/// A certificate of the same authority for these URIs.
pub(crate) fn certified(uris: &[&str], not_after: SystemTime) -> Svid {
    AUTHORITY.certified(uris, not_after)
}

/// Runs a test as the data plane runs: on one thread, where tasks need not be `Send`.
pub(crate) fn on_worker<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bounded = async { tokio::time::timeout(DEADLINE, test).await };
    runtime
        .block_on(LocalSet::new().run_until(bounded))
        .expect("the test hangs")
}

/// The kernel's buffers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// As the kernel thinks right.
    Usual,
    /// What does not fit waits in the agent.
    Small,
    /// Much waits in the kernel to be sent, little to be read.
    SmallToRead,
}

/// Both ends of a connection over loopback, in segments as on a real network: with those of loopback, small
/// buffers make the kernel wait for its timers.
pub(crate) fn tcp_pair(buffers: Buffers) -> (TcpStream, TcpStream) {
    let socket = || {
        let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_tcp_mss(1400).unwrap();
        CongestionControl::local().apply(&socket).unwrap();
        // Only before the connection stands; afterwards more would come than there is room for.
        if buffers != Buffers::Usual {
            socket.set_recv_buffer_size(SMALL).unwrap();
        }
        match buffers {
            Buffers::Usual => {}
            Buffers::Small => socket.set_send_buffer_size(SMALL).unwrap(),
            Buffers::SmallToRead => socket.set_send_buffer_size(1 << 20).unwrap(),
        }
        socket
    };
    let (listener, near) = (socket(), socket());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    listener.bind(&any.into()).unwrap();
    listener.listen(1).unwrap();
    near.connect(&listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for socket in [&near, &far] {
        socket.set_tcp_nodelay(true).unwrap();
        socket.set_nonblocking(true).unwrap();
    }
    (near.into(), far.into())
}

/// Both ends as the data plane has them.
pub(crate) fn socket_pair(buffers: Buffers) -> (Socket, Socket) {
    let (near, far) = tcp_pair(buffers);
    let socket = |stream| Socket::from_nonblocking(stream).unwrap();
    (socket(near), socket(far))
}

/// Both ends of a connection that has been authenticated: the client's and the server's.
pub(crate) async fn authenticated_pair(buffers: Buffers) -> (Authenticated, Authenticated) {
    let (near, far) = socket_pair(buffers);
    let (client, server) = (svid("client"), svid("server"));
    let (client, server) = tokio::join!(
        super::client(&client, Arc::new([id("server")]), near),
        super::server(&server, far),
    );
    (client.unwrap(), server.unwrap())
}

/// What an independent TLS client needs to be accepted as `account` by the holder of an SVID.
pub(crate) fn rustls_client(account: &str) -> rustls::ClientConfig {
    super::config::client(&svid(account), Arc::new([id("server")])).unwrap()
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = usize::try_from(self.0 >> 33).unwrap();
        high % bound
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
