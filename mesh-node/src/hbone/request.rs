//! The CONNECT request: authority, `baggage`, `forwarded` and `traceparent`, built and parsed without any I/O.

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use mesh_common::workload::Workload;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use thiserror::Error;

use super::trace::{TRACEPARENT, TraceParent};

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// A peer's CONNECT request that cannot be served; answered with 400.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadRequest {
    /// Only CONNECT opens a tunnel stream.
    #[error("method {0} instead of CONNECT")]
    Method(Method),
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

    /// The header's value, `key=value` pairs joined by commas.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        HeaderValue::try_from(pairs.join(",")).ok()
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
    /// Builds the request that opens a stream.
    ///
    /// # Errors
    /// Only when an address is no valid authority, which is a defect.
    pub fn to_http(
        &self,
        baggage: &Baggage,
        service_host: Option<&str>,
    ) -> Result<Request<()>, http::Error> {
        let authority = http::uri::Authority::try_from(self.authority.to_string())?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::from(authority);
        let headers = request.headers_mut();
        if let Some(value) = baggage.header() {
            headers.insert(BAGGAGE, value);
        }
        if let Some(client) = self.forwarded_for {
            let host = service_host
                .map(|host| format!(";host={host}"))
                .unwrap_or_default();
            if let Ok(value) = HeaderValue::try_from(format!("for=\"{client}\"{host}")) {
                headers.insert(FORWARDED, value);
            }
        }
        if let Some(value) = self.trace.as_ref().and_then(TraceParent::header) {
            headers.insert(TRACEPARENT, value);
        }
        Ok(request)
    }

    /// Reads a peer's request.
    ///
    /// # Errors
    /// [`BadRequest`], to be answered with 400.
    pub fn from_http<T>(request: &Request<T>) -> Result<Self, BadRequest> {
        if request.method() != Method::CONNECT {
            return Err(BadRequest::Method(request.method().clone()));
        }
        let stated = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let authority: SocketAddr = stated
            .parse()
            .map_err(|_| BadRequest::Authority(stated.chars().take(256).collect()))?;
        Ok(Self {
            authority: canonical(authority),
            forwarded_for: forwarded_for(request.headers()),
            trace: TraceParent::from_headers(request.headers()),
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

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// RFC 7239: the `for=` of the first element; only an address with a port is of use here.
fn forwarded_for(headers: &HeaderMap) -> Option<SocketAddr> {
    let value = headers.get(FORWARDED)?.to_str().ok()?;
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

    fn request(method: Method, authority: &str, forwarded: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(authority).unwrap();
        if let Some(value) = forwarded {
            request
                .headers_mut()
                .insert(FORWARDED, HeaderValue::try_from(value).unwrap());
        }
        request
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
            let http = asked
                .to_http(&Baggage::default(), Some("a.b.svc.cluster.local"))
                .unwrap();
            assert_eq!(http.uri().authority().unwrap().as_str(), authority);
            assert_eq!(ConnectRequest::from_http(&http), Ok(asked));
        }
    }

    #[test]
    fn other_methods_and_authorities_are_refused() {
        assert_eq!(
            ConnectRequest::from_http(&request(Method::GET, "10.0.0.1:80", None)),
            Err(BadRequest::Method(Method::GET))
        );
        for bad in ["web:80", "10.0.0.1", "web.shop.svc.cluster.local:80"] {
            assert_eq!(
                ConnectRequest::from_http(&request(Method::CONNECT, bad, None)),
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
            let http = request(Method::CONNECT, "10.0.0.1:80", stated);
            let asked = ConnectRequest::from_http(&http).unwrap();
            assert_eq!(asked.client(tunnel), shown.parse().unwrap(), "{stated:?}");
        }
    }

    #[test]
    fn mapped_addresses_are_read_as_ipv4() {
        let http = request(Method::CONNECT, "[::ffff:10.0.0.1]:80", None);
        assert_eq!(
            ConnectRequest::from_http(&http).unwrap().authority,
            "10.0.0.1:80".parse().unwrap()
        );
    }
}
