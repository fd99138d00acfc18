//! HPACK (RFC 7541): the compression of header lists.
//!
//! [`Decoder`] is complete: static and dynamic table, Huffman code, size updates. [`encode`] keeps no
//! state: it refers to the static table and sends everything else literally, because the few fields of a
//! CONNECT request are not worth a table of up to 4 KiB for each connection and direction.
//!
//! It is written here because no crate for it is sound and maintained: those there are panic or grow
//! on hostile input, have no limit on the decoded list, or have not been released for years, and the
//! codec of `h2` is private.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod table;

pub use decoder::{CompressionError, Decoder, HpackError};
pub use encoder::encode;

/// The dynamic table's maximum size before any SETTINGS, in bytes (RFC 9113 section 6.5.2).
pub const DEFAULT_TABLE_SIZE: u32 = 4096;

/// What a field counts beyond the bytes of its name and value, in the size of a header list (RFC 9113
/// section 6.5.2) and of the dynamic table (RFC 7541 section 4.1).
pub const FIELD_OVERHEAD: usize = 32;
