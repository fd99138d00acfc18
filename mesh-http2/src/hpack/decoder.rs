//! The decoder.

use super::table::{DynamicTable, Entry};
use super::{FIELD_OVERHEAD, huffman, integer};
use thiserror::Error;

/// How far beyond its limit a list is still decoded, in bytes. A block can refer to one large entry
/// with each of its bytes: what it costs must not be a multiple of what it takes to send.
const EXCESS: usize = 64 << 10;

/// A header block was not decoded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HpackError {
    /// The list is larger than the limit. The block was read to its end, so that only this request or
    /// response is lost.
    #[error("the header list is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes, with 32 for each field.
        limit: usize,
    },
    /// The list is so much larger than the limit that the block was not read to its end: the connection
    /// must end, for the tables of the two ends no longer agree.
    #[error("the header list is far larger than {limit} bytes")]
    Excessive {
        /// The limit in bytes, with 32 for each field.
        limit: usize,
    },
    /// The block has no meaning: a connection error COMPRESSION_ERROR (RFC 9113 section 4.3).
    #[error("the header block is broken: {0}")]
    Compression(#[from] CompressionError),
}

/// What is wrong with a header block.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CompressionError {
    /// The block ends within a field.
    #[error("it ends within a field")]
    Truncated,
    /// An integer exceeds 32 bits (RFC 7541 section 5.1).
    #[error("an integer exceeds 32 bits")]
    IntegerOverflow,
    /// A string is not Huffman-coded as it says (RFC 7541 section 5.2).
    #[error("a string is not valid Huffman code")]
    Huffman,
    /// An index is 0, or beyond the tables (RFC 7541 sections 2.3.3 and 6.1).
    #[error("it refers to entry {0}, which no table has")]
    Index(u32),
    /// A size update exceeds SETTINGS_HEADER_TABLE_SIZE (RFC 7541 section 6.3).
    #[error("it sets the dynamic table to {0} bytes, more than SETTINGS_HEADER_TABLE_SIZE")]
    TableSize(u32),
    /// A size update comes after a field (RFC 7541 section 4.2).
    #[error("it changes the size of the dynamic table after a field")]
    LateSizeUpdate,
    /// SETTINGS_HEADER_TABLE_SIZE was reduced, and the first block after that does not begin with a size
    /// update (RFC 9113 section 4.3.1).
    #[error("it does not reduce the dynamic table as SETTINGS_HEADER_TABLE_SIZE demands")]
    MissingSizeUpdate,
}

/// Decodes the header blocks of one connection and direction, in the order in which they came.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// The SETTINGS_HEADER_TABLE_SIZE that the peer has acknowledged.
    allowed: u32,
    /// The setting was reduced below the table's maximum: the next block must say that it knows.
    reduced: bool,
}

impl Decoder {
    /// A decoder whose dynamic table may take `max_table_size` bytes. Before the peer acknowledges another
    /// SETTINGS_HEADER_TABLE_SIZE this is [`super::DEFAULT_TABLE_SIZE`].
    pub fn new(max_table_size: u32) -> Self {
        Self {
            table: DynamicTable::new(max_table_size),
            allowed: max_table_size,
            reduced: false,
        }
    }

    /// The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE, in bytes. A larger one only allows the
    /// peer to enlarge the table; a smaller one demands that its next block shrinks it.
    pub fn set_max_table_size(&mut self, max_table_size: u32) {
        self.allowed = max_table_size;
        self.reduced |= self.table.max_size() > max_table_size as usize;
    }

    /// Decodes one whole block and gives each name and value to `f`.
    ///
    /// `limit` is the largest list, in bytes, with 32 for each field (RFC 9113 section 6.5.2). The field
    /// that exceeds it and those after it are not given to `f`, but decoded up to 64 KiB beyond the limit.
    ///
    /// # Errors
    /// See [`HpackError`]: all but `TooLarge` mean that the connection must end.
    pub fn decode(
        &mut self,
        block: &[u8],
        limit: usize,
        mut f: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let mut input = self.size_updates(block)?;
        let (mut name_buffer, mut value_buffer) = (Vec::new(), Vec::new());
        let mut size = 0usize;
        while let Some((&first, rest)) = input.split_first() {
            input = rest;
            let field = Field::from_first(first)?;
            let index = integer::read(&mut input, first, field.prefix())?;
            let (name, value) = match (field, index) {
                (Field::Indexed, index) => self.entry(index)?,
                (_, 0) => (
                    string(&mut input, &mut name_buffer)?,
                    string(&mut input, &mut value_buffer)?,
                ),
                (_, index) => (self.entry(index)?.0, string(&mut input, &mut value_buffer)?),
            };
            size = size.saturating_add(name.len() + value.len() + FIELD_OVERHEAD);
            if size <= limit {
                f(name, value);
            } else if size - limit > EXCESS {
                return Err(HpackError::Excessive { limit });
            }
            if field == Field::Incremental {
                // A copy first: the name may be that of an entry which the insertion evicts.
                let entry = Entry::new(name, value);
                self.table.insert(entry);
            }
        }
        if size > limit {
            return Err(HpackError::TooLarge { limit });
        }
        Ok(())
    }

    /// Carries out the size updates that begin a block and returns the rest of it.
    fn size_updates<'a>(&mut self, block: &'a [u8]) -> Result<&'a [u8], CompressionError> {
        let mut input = block;
        while let Some((&first, rest)) = input.split_first()
            && first & 0xe0 == 0x20
        {
            input = rest;
            let size = integer::read(&mut input, first, 5)?;
            if size > self.allowed {
                return Err(CompressionError::TableSize(size));
            }
            self.table.set_max_size(size as usize);
            self.reduced = false;
        }
        if self.reduced {
            return Err(CompressionError::MissingSizeUpdate);
        }
        Ok(input)
    }

    fn entry(&self, index: u32) -> Result<(&[u8], &[u8]), CompressionError> {
        self.table.get(index).ok_or(CompressionError::Index(index))
    }
}

/// The representations of a field (RFC 7541 sections 6.1 and 6.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// An entry of a table.
    Indexed,
    /// A literal to be added to the dynamic table.
    Incremental,
    /// A literal that is not, whether or not a proxy may do so.
    Literal,
}

impl Field {
    fn from_first(first: u8) -> Result<Self, CompressionError> {
        match first.leading_zeros() {
            0 => Ok(Self::Indexed),
            1 => Ok(Self::Incremental),
            2 => Err(CompressionError::LateSizeUpdate),
            _ => Ok(Self::Literal),
        }
    }

    /// Bits of the index in the first byte.
    fn prefix(self) -> u32 {
        match self {
            Self::Indexed => 7,
            Self::Incremental => 6,
            Self::Literal => 4,
        }
    }
}

/// Reads a string literal (RFC 7541 section 5.2), into `buffer` if it is Huffman-coded.
fn string<'a, 'b: 'a>(
    input: &mut &'b [u8],
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], CompressionError> {
    let (&first, rest) = input.split_first().ok_or(CompressionError::Truncated)?;
    *input = rest;
    let length = integer::read(input, first, 7)? as usize;
    let (bytes, rest) = input
        .split_at_checked(length)
        .ok_or(CompressionError::Truncated)?;
    *input = rest;
    if first & 0x80 == 0 {
        return Ok(bytes);
    }
    buffer.clear();
    huffman::decode(bytes, buffer)?;
    Ok(buffer)
}
