//! The messages of ZDS, with which a CNI agent hands pods to a node proxy. Field numbers are the protocol's.

/// The proxy's first message.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    /// The protocol's version; 1 is the only one.
    #[prost(int32, tag = "1")]
    pub(super) version: i32,
}

/// Who a pod is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WorkloadInfo {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) service_account: String,
}

/// Takes a pod in; its network namespace comes with the message as a descriptor.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AddWorkload {
    #[prost(string, tag = "1")]
    pub(super) uid: String,
    #[prost(message, optional, tag = "2")]
    pub(super) info: Option<WorkloadInfo>,
}

/// What the CNI agent asks for.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Payload {
    /// Take a pod in.
    #[prost(message, tag = "1")]
    Add(AddWorkload),
    /// Every pod of the snapshot has been sent.
    #[prost(message, tag = "3")]
    SnapshotSent(()),
}

/// A message from the CNI agent.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(oneof = "Payload", tags = "1, 3")]
    pub(super) payload: Option<Payload>,
}

/// The proxy's answer; with a text in it the request has failed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ack {
    #[prost(string, tag = "1")]
    pub(super) error: String,
}

/// A message from the proxy after its first.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) ack: Option<Ack>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn a_pod_is_handed_over_as_the_protocol_says() {
        let info = WorkloadInfo {
            name: "n".into(),
            namespace: "s".into(),
            service_account: "a".into(),
        };
        let add = AddWorkload {
            uid: "u".into(),
            info: Some(info),
        };
        let request = Request {
            payload: Some(Payload::Add(add)),
        };
        let expected = b"\x0a\x0e\x0a\x01u\x12\x09\x0a\x01n\x12\x01s\x1a\x01a";
        assert_eq!(request.encode_to_vec(), expected);
        let sent = Request {
            payload: Some(Payload::SnapshotSent(())),
        };
        assert_eq!(sent.encode_to_vec(), b"\x1a\x00");
    }

    #[test]
    fn what_the_proxy_says_is_read() {
        assert_eq!(Hello::decode(&b"\x08\x01"[..]), Ok(Hello { version: 1 }));
        let error =
            |bytes: &'static [u8]| Response::decode(bytes).unwrap().ack.map(|ack| ack.error);
        assert_eq!(error(b"\x0a\x00"), Some(String::new()));
        assert_eq!(error(b"\x0a\x04\x0a\x02no"), Some("no".into()));
        assert_eq!(error(b""), None);
        assert!(Response::decode(&b"\x0a\x09no"[..]).is_err());
    }
}
