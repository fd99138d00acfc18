//! Encoding that gives equal bytes for equal messages. Maps have no order of their own in the
//! generated types, so their entries are appended sorted; a decoder accepts fields in any order.

use std::collections::BTreeMap;

use mesh_common::proto::workload::{Address, PortList, Workload, address};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// The field number of `Address.workload`.
const WORKLOAD_FIELD: u32 = 1;

/// Encodes a workload as an `Address`; `workload.services` must be empty, `services` replaces it.
pub(super) fn workload(workload: &Workload, services: BTreeMap<String, PortList>) -> Vec<u8> {
    debug_assert!(workload.services.is_empty());
    let mut body = workload.encode_to_vec();
    for entry in services {
        let one = Workload {
            services: [entry].into_iter().collect(),
            ..Workload::default()
        };
        body.extend(one.encode_to_vec());
    }
    let mut out = Vec::with_capacity(body.len() + 6);
    encode_key(WORKLOAD_FIELD, WireType::LengthDelimited, &mut out);
    encode_varint(body.len() as u64, &mut out);
    out.extend(body);
    out
}

/// Encodes a service as an `Address`.
pub(super) fn service(service: mesh_common::proto::workload::Service) -> Vec<u8> {
    Address {
        r#type: Some(address::Type::Service(service)),
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_common::proto::workload::Port;

    #[test]
    fn decodes_to_the_same_and_never_varies() {
        let port = Port {
            service_port: 80,
            target_port: 8080,
            app_protocol: 0,
        };
        let services: BTreeMap<String, PortList> = (0..20)
            .map(|i| (format!("ns/s{i}"), PortList { ports: vec![port] }))
            .collect();
        let plain = Workload {
            uid: "u".into(),
            node: "n".into(),
            ..Workload::default()
        };
        let bytes = workload(&plain, services.clone());
        assert_eq!(bytes, workload(&plain, services.clone()));
        let Some(address::Type::Workload(got)) = Address::decode(&*bytes).unwrap().r#type else {
            panic!("not a workload");
        };
        assert_eq!(
            got,
            Workload {
                services: services.into_iter().collect(),
                ..plain
            }
        );
    }
}
