//! Admin addresses, as they are given on the command line.

use std::fmt;
use std::str::FromStr;

use http::Uri;

const AGENT_PORT: u16 = 15000;
const CONTROLLER_PORT: u16 = 15014;

/// Host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The admin address of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUrl(pub Address);

/// The admin address of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerUrl(pub Address);

impl FromStr for AgentUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, AGENT_PORT).map(Self)
    }
}

impl FromStr for ControllerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, CONTROLLER_PORT).map(Self)
    }
}

fn parse(text: &str, default_port: u16) -> Result<Address, String> {
    let example = format!("give it as http://HOST:{default_port}");
    let uri: Uri = text.parse().map_err(|e| format!("{e}; {example}"))?;
    if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
        return Err(format!("the admin endpoints are plain HTTP; {example}"));
    }
    if uri.path().len() > 1 || uri.query().is_some() {
        return Err(format!("only host and port belong here; {example}"));
    }
    let authority = uri
        .authority()
        .ok_or_else(|| format!("it names no host; {example}"))?;
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => Some(default_port),
        Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()),
        // A user, for whom there is no use.
        None => None,
    };
    Ok(Address {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.ok_or_else(|| format!("after the host comes no port; {example}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("http://10.0.0.1:15000", "10.0.0.1:15000"),
            ("http://10.0.0.1:1/", "10.0.0.1:1"),
            ("http://node1", "node1:15000"),
            ("node1", "node1:15000"),
            ("node1:7", "node1:7"),
            ("http://[fd00::1]:7", "[fd00::1]:7"),
            ("http://[fd00::1]", "[fd00::1]:15000"),
        ] {
            let url: AgentUrl = text.parse().unwrap();
            assert_eq!(url.0.to_string(), shown, "{text}");
        }
        let url: ControllerUrl = "http://weft".parse().unwrap();
        assert_eq!(url.0.port, 15014);
        for (text, reason) in [
            ("https://node1", "plain HTTP"),
            ("http://node1/status", "only host and port"),
            ("/status", "only host and port"),
            ("", "http://HOST:15000"),
            ("http://node1:99999", "http://HOST:15000"),
            ("http://me@node1", "http://HOST:15000"),
        ] {
            let error = text.parse::<AgentUrl>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
