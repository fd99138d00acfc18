//! Arbitrary strings as identities: what is accepted is exactly what its parts make.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_common::identity::SpiffeId;

fuzz_target!(|text: &str| {
    let Ok(id) = text.parse::<SpiffeId>() else {
        return;
    };
    assert_eq!(id.as_str(), text);
    let domain = id.trust_domain();
    let parts = SpiffeId::new(domain, id.namespace(), id.service_account());
    assert_eq!(parts.as_ref(), Ok(&id));
    assert_eq!(format!("spiffe://{}", id.principal()), text);
    // None of its parts can be mistaken for two.
    assert!(
        [domain.as_str(), id.namespace(), id.service_account()]
            .iter()
            .all(|part| !part.contains('/'))
    );
    assert!(
        text.bytes()
            .all(|b| b.is_ascii_graphic() && !b"%?#@[]\\".contains(&b))
    );
});
