//! Arbitrary header blocks, one after the other, into one decoder.
//!
//! What it gives never exceeds the limit, and what was decoded is the same after it was encoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_http2::hpack::{Decoder, FIELD_OVERHEAD, HpackError, encode};

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8], limit: usize) -> (Fields, Result<(), HpackError>) {
    let mut fields = Fields::new();
    let result = decoder.decode(block, limit, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    });
    (fields, result)
}

fuzz_target!(|input: (u16, u16, Vec<Vec<u8>>)| {
    let (table_size, limit, blocks) = input;
    let limit = usize::from(limit);
    let mut decoder = Decoder::new(u32::from(table_size));
    for (n, block) in blocks.iter().enumerate() {
        let (fields, result) = decode(&mut decoder, block, limit);
        let size: usize = fields
            .iter()
            .map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD)
            .sum();
        assert!(size <= limit);
        match result {
            Ok(()) => {}
            Err(HpackError::TooLarge { .. }) => continue,
            Err(_) => return,
        }
        let mut again = Vec::new();
        let pairs = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        encode(&mut again, pairs);
        assert_eq!(
            decode(&mut Decoder::new(4096), &again, limit),
            (fields, Ok(()))
        );
        if n % 8 == 7 {
            decoder.set_max_table_size(u32::from(table_size) / 2);
        }
    }
});
