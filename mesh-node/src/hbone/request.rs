//! The CONNECT request: authority, `baggage`, `forwarded` and `traceparent`, built and parsed without any I/O.

use mesh_common::workload::Workload;
use mesh_http2::Head;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use thiserror::Error;

use super::trace::{TRACEPARENT, TraceParent};

const BAGGAGE: &str = "baggage";
const FORWARDED: &str = "forwarded";

/// A peer's CONNECT request that cannot be served; answered with 400.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadRequest {
    /// Only CONNECT opens a tunnel stream.
    #[error("method {0} instead of CONNECT")]
    Method(String),
    /// The authority is not `IP:port`.
    #[error(":authority {0:?} is not IP:port")]
    Authority(String),
}

/// Facts about the client's workload that ride along for telemetry. Never used to decide anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage(Vec<(&'static str, Arc<str>)>);

impl Baggage {
    /// Describes `workload`.
    #[must_use]
    pub fn of(workload: &Workload) -> Self {
        let kind = match workload.workload_type.as_ref() {
            "deployment" => "k8s.deployment.name",
            "cronjob" => "k8s.cronjob.name",
            "job" => "k8s.job.name",
            _ => "k8s.pod.name",
        };
        let entries = [
            ("k8s.cluster.name", &workload.cluster_id),
            ("k8s.namespace.name", &workload.namespace),
            (kind, &workload.workload_name),
            ("service.name", &workload.canonical_name),
            ("service.version", &workload.canonical_revision),
            ("cloud.region", &workload.locality.region),
            ("cloud.availability_zone", &workload.locality.zone),
        ];
        let stated = entries.into_iter().filter(|(_, value)| !value.is_empty());
        Self(stated.map(|(key, value)| (key, value.clone())).collect())
    }

    /// The header's value, `key=value` pairs joined by commas; none when there are none.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let mut text = String::new();
        for (key, value) in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(key);
            text.push('=');
            text.push_str(value);
        }
        (!text.is_empty()).then_some(text)
    }
}

/// The fields of a request, in the order in which they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

/// What a CONNECT asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The application's address at the destination.
    pub authority: SocketAddr,
    /// The client application's address, when the peer stated one. A claim: check it before use.
    pub forwarded_for: Option<SocketAddr>,
    /// Shared by both ends' log lines, when the peer sent one.
    pub trace: Option<TraceParent>,
}

impl ConnectRequest {
    /// The fields of the request that opens a stream.
    #[must_use]
    pub fn fields(&self, baggage: &Baggage, service_host: Option<&str>) -> Fields {
        let mut fields = vec![
            (":method", "CONNECT".to_owned()),
            (":authority", self.authority.to_string()),
        ];
        if let Some(value) = baggage.header() {
            fields.push((BAGGAGE, value));
        }
        if let Some(client) = self.forwarded_for {
            let host = service_host
                .map(|host| format!(";host={host}"))
                .unwrap_or_default();
            fields.push((FORWARDED, format!("for=\"{client}\"{host}")));
        }
        if let Some(trace) = &self.trace {
            fields.push((TRACEPARENT, trace.to_string()));
        }
        Fields(fields)
    }

    /// Reads a peer's request.
    ///
    /// # Errors
    /// [`BadRequest`], to be answered with 400.
    pub fn from_head(head: &Head) -> Result<Self, BadRequest> {
        if head.method() != b"CONNECT" {
            return Err(BadRequest::Method(shown(head.method())));
        }
        let stated = std::str::from_utf8(head.authority()).unwrap_or_default();
        let authority: SocketAddr = stated
            .parse()
            .map_err(|_| BadRequest::Authority(shown(head.authority())))?;
        Ok(Self {
            authority: canonical(authority),
            forwarded_for: text(head, FORWARDED).and_then(forwarded_for),
            trace: text(head, TRACEPARENT).and_then(TraceParent::parse),
        })
    }

    /// The client's address that may be shown to the application: the stated one, if its IP is the
    /// one the tunnel really comes from, otherwise the tunnel's.
    #[must_use]
    pub fn client(&self, tunnel_source: SocketAddr) -> SocketAddr {
        match self.forwarded_for {
            Some(stated) if stated.ip() == tunnel_source.ip() => stated,
            _ => tunnel_source,
        }
    }
}

/// What a peer stated, cut to a length that fits a log line.
fn shown(stated: &[u8]) -> String {
    String::from_utf8_lossy(stated).chars().take(256).collect()
}

fn text<'a>(head: &'a Head, name: &str) -> Option<&'a str> {
    std::str::from_utf8(head.get(name)?).ok()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// RFC 7239: the `for=` of the first element; only an address with a port is of use here.
fn forwarded_for(value: &str) -> Option<SocketAddr> {
    let first = value.split(',').next()?;
    let node = first.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    let address: SocketAddr = node.trim_matches('"').parse().ok()?;
    let usable =
        address.port() != 0 && !matches!(address.ip(), IpAddr::V4(ip) if ip.is_unspecified());
    usable.then(|| canonical(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head as the peer's HTTP/2 reads it.
    fn head(fields: &[(&str, &str)]) -> Head {
        let config = mesh_http2::Config {
            stream_window: 65_535,
            connection_window: 65_535,
            max_frame_size: 16_384,
            max_streams: 1,
            max_header_list: 16 << 10,
        };
        let mut client = mesh_http2::Connection::client(config);
        let fields = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        client.request(fields).unwrap();
        let mut bytes = client.control().as_slice();
        let mut server = mesh_http2::Connection::server(config);
        loop {
            match server.receive(&mut bytes).unwrap() {
                Some(mesh_http2::Event::Head { head, .. }) => return head,
                Some(_) => {}
                None => panic!("no head"),
            }
        }
    }

    fn connect(authority: &str, forwarded: Option<&str>) -> Head {
        let mut fields = vec![(":method", "CONNECT"), (":authority", authority)];
        fields.extend(forwarded.map(|value| (FORWARDED, value)));
        head(&fields)
    }

    #[test]
    fn what_is_built_is_what_is_read() {
        for (authority, client) in [
            ("10.0.0.1:80", "10.0.0.2:4711"),
            ("[fd00::1]:80", "[fd00::2]:4711"),
        ] {
            let asked = ConnectRequest {
                authority: authority.parse().unwrap(),
                forwarded_for: Some(client.parse().unwrap()),
                trace: Some(TraceParent::random()),
            };
            let fields = asked.fields(&Baggage::default(), Some("a.b.svc.cluster.local"));
            let fields: Vec<(&str, &str)> =
                fields.0.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let head = head(&fields);
            assert_eq!(head.authority(), authority.as_bytes());
            assert_eq!(ConnectRequest::from_head(&head), Ok(asked));
        }
    }

    #[test]
    fn other_methods_and_authorities_are_refused() {
        let get = head(&[(":method", "GET"), (":scheme", "https"), (":path", "/")]);
        assert_eq!(
            ConnectRequest::from_head(&get),
            Err(BadRequest::Method("GET".into()))
        );
        for bad in ["web:80", "10.0.0.1", "web.shop.svc.cluster.local:80"] {
            assert_eq!(
                ConnectRequest::from_head(&connect(bad, None)),
                Err(BadRequest::Authority(bad.into()))
            );
        }
    }

    #[test]
    fn a_forged_client_address_is_not_shown() {
        let tunnel: SocketAddr = "10.0.0.2:9999".parse().unwrap();
        for (stated, shown) in [
            (Some("for=\"10.0.0.2:4711\""), "10.0.0.2:4711"),
            (Some("For=10.0.0.2:4711;host=x"), "10.0.0.2:4711"),
            (Some("for=\"10.0.0.3:4711\""), "10.0.0.2:9999"),
            (Some("for=unknown"), "10.0.0.2:9999"),
            (Some("nonsense"), "10.0.0.2:9999"),
            (None, "10.0.0.2:9999"),
        ] {
            let asked = ConnectRequest::from_head(&connect("10.0.0.1:80", stated)).unwrap();
            assert_eq!(asked.client(tunnel), shown.parse().unwrap(), "{stated:?}");
        }
    }

    #[test]
    fn mapped_addresses_are_read_as_ipv4() {
        let head = connect("[::ffff:10.0.0.1]:80", None);
        assert_eq!(
            ConnectRequest::from_head(&head).unwrap().authority,
            "10.0.0.1:80".parse().unwrap()
        );
    }
}
