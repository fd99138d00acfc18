//! The encoder: static table and literals, no state.

use super::integer;
use super::table::STATIC;

/// Appends the block of these fields, names in lower case, to `out`.
///
/// Each block begins with a size update to 0, one byte. It tells the peer that this encoder keeps no
/// dynamic table, and is the acknowledgement that RFC 7541 section 4.2 demands of an encoder whose peer
/// reduces SETTINGS_HEADER_TABLE_SIZE, whenever that happens.
pub fn encode<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    integer::write(out, 0x20, 5, 0);
    for (name, value) in fields {
        field(out, name, value);
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // Entries of one name are neighbours.
    let same_name = STATIC.iter().position(|entry| entry.0 == name);
    let Some(start) = same_name else {
        // A literal without indexing, with a new name (section 6.2.2).
        out.push(0x00);
        string(out, name);
        string(out, value);
        return;
    };
    let known = STATIC[start..].iter().take_while(|entry| entry.0 == name);
    match known.into_iter().position(|entry| entry.1 == value) {
        // An indexed field (section 6.1); the first entry has index 1.
        Some(offset) => integer::write(out, 0x80, 7, start + offset + 1),
        None => {
            integer::write(out, 0x00, 4, start + 1);
            string(out, value);
        }
    }
}

/// A string literal (section 5.2), not Huffman-coded: it would save some tens of bytes once in the life
/// of a stream.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    integer::write(out, 0x00, 7, bytes.len());
    out.extend_from_slice(bytes);
}
