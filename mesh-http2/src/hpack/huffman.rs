//! The Huffman code of string literals (RFC 7541 section 5.2 and appendix B), decoding only.
//!
//! The code is canonical: among codes of one length, the values ascend with the symbols, and longer
//! codes come after shorter ones. The lengths alone therefore give the whole code, and what decodes it.

use super::decoder::CompressionError;

/// The length in bits of each byte's code. EOS has 30 bits, and as the last symbol all ones.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const SHORTEST: usize = 5;
const LONGEST: usize = 30;
/// Codes of at most this many bits are found by one look into [`SHORT`].
const SHORT_BITS: u32 = 8;

/// What decodes codes of one length: codes left-aligned in 32 bits.
#[derive(Clone, Copy)]
struct Length {
    /// The first code of this length.
    first: u32,
    /// The first code above all of this length; only longer codes follow.
    end: u32,
    /// Where this length's symbols begin in [`SYMBOLS`].
    offset: usize,
}

/// The symbols in the order of their codes.
const SYMBOLS: [u8; 256] = {
    let mut symbols = [0; 256];
    let mut next = 0;
    let mut length = SHORTEST;
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                symbols[next] = symbol as u8;
                next += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

/// By length in bits.
const BY_LENGTH: [Length; LONGEST + 1] = {
    let none = Length {
        first: 0,
        end: 0,
        offset: 0,
    };
    let mut table = [none; LONGEST + 1];
    let mut offset = 0;
    let mut first = 0;
    let mut length = SHORTEST;
    while length <= LONGEST {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                count += 1;
            }
            symbol += 1;
        }
        let end = first + ((count as u32) << (32 - length));
        table[length] = Length { first, end, offset };
        offset += count;
        first = end;
        length += 1;
    }
    table
};

/// Symbol and length of the code that these bits begin with; length 0 where it is a longer one.
const SHORT: [(u8, u8); 1 << SHORT_BITS] = {
    let mut table = [(0, 0); 1 << SHORT_BITS];
    let mut bits = 0;
    while bits < table.len() {
        let window = (bits as u32) << (32 - SHORT_BITS);
        let mut length = SHORTEST;
        while length <= SHORT_BITS as usize {
            let of = BY_LENGTH[length];
            if window >= of.first && window < of.end {
                let symbol = SYMBOLS[of.offset + ((window - of.first) >> (32 - length)) as usize];
                table[bits] = (symbol, length as u8);
            }
            length += 1;
        }
        bits += 1;
    }
    table
};

/// Appends what `input` encodes to `out`: at most 8/5 of its size.
///
/// # Errors
/// For EOS within the string, and for an end that is neither whole nor up to 7 ones (section 5.2).
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    out.reserve(input.len() * 8 / SHORTEST);
    let mut input = input.iter();
    // The bits not yet decoded, left-aligned; all below them are zero.
    let mut bits = 0u64;
    let mut count = 0u32;
    loop {
        while count <= u64::BITS - 8 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << (u64::BITS - 8 - count);
            count += 8;
        }
        let window = (bits >> 32) as u32;
        let Some((symbol, length)) = symbol(window).filter(|(_, length)| *length <= count) else {
            return padding(bits, count);
        };
        out.push(symbol);
        bits <<= length;
        count -= length;
    }
}

/// The symbol whose code begins the window, and its length; none for EOS.
fn symbol(window: u32) -> Option<(u8, u32)> {
    let (symbol, length) = SHORT[(window >> (32 - SHORT_BITS)) as usize];
    if length != 0 {
        return Some((symbol, length.into()));
    }
    let lengths = BY_LENGTH.iter().enumerate().skip(SHORT_BITS as usize + 1);
    for (length, of) in lengths {
        if window < of.end {
            let index = (window - of.first) >> (32 - length);
            return Some((SYMBOLS[of.offset + index as usize], length as u32));
        }
    }
    None
}

/// What is left when no symbol is: the most significant bits of EOS, and less than a byte.
fn padding(bits: u64, count: u32) -> Result<(), CompressionError> {
    if count < 8 && bits.leading_ones() == count {
        return Ok(());
    }
    Err(CompressionError::Huffman)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of a symbol, right-aligned, and its length in bits.
    fn code(symbol: u8) -> (u32, u32) {
        let length = LENGTHS[usize::from(symbol)];
        let of = BY_LENGTH[usize::from(length)];
        let index = SYMBOLS[of.offset..]
            .iter()
            .position(|&s| s == symbol)
            .unwrap();
        ((of.first >> (32 - length)) + index as u32, length.into())
    }

    fn encode(text: &[u8], padding: &[bool]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &symbol in text {
            let (code, length) = code(symbol);
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        bits.extend(padding);
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        let byte = |bits: &[bool]| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit));
        bits.chunks(8).map(byte).collect()
    }

    fn decoded(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn codes_of_appendix_b() {
        for (symbol, value, length) in [
            (b'0', 0x0, 5),
            (b't', 0x9, 5),
            (b' ', 0x14, 6),
            (b':', 0x5c, 7),
            (b'Z', 0xfd, 8),
            (b'?', 0x3fc, 10),
            (b'|', 0x7fc, 11),
            (0, 0x1ff8, 13),
            (b'{', 0x7ffe, 15),
            (b'\\', 0x7fff0, 19),
            (128, 0xfffe6, 20),
            (1, 0x7fffd8, 23),
            (171, 0xfffff0, 24),
            (255, 0x3ffffee, 26),
            (249, 0xffffffe, 28),
            (22, 0x3ffffffe, 30),
        ] {
            assert_eq!(code(symbol), (value, length), "symbol {symbol}");
        }
    }

    #[test]
    fn the_code_leaves_room_for_eos_alone() {
        assert_eq!(BY_LENGTH[LONGEST].end, u32::MAX << (32 - LONGEST));
    }

    #[test]
    fn every_symbol_comes_back_alone_and_between_others() {
        for symbol in 0..=u8::MAX {
            for text in [&[symbol][..], &[b'a', symbol, b'~', symbol, b'0']] {
                assert_eq!(decoded(&encode(text, &[])).as_deref(), Ok(text));
            }
        }
        let all: Vec<u8> = (0..=u8::MAX).rev().collect();
        assert_eq!(decoded(&encode(&all, &[])), Ok(all));
        assert_eq!(decoded(b""), Ok(Vec::new()));
    }

    #[test]
    fn padding_is_ones_and_less_than_a_byte() {
        // 'a' has 5 bits, so 3 complete the byte.
        assert_eq!(decoded(&encode(b"a", &[true; 3])), Ok(b"a".to_vec()));
        for bad in [[true, true, false], [false, true, true], [false; 3]] {
            assert_eq!(decoded(&encode(b"a", &bad)), Err(CompressionError::Huffman));
        }
        assert_eq!(
            decoded(&encode(b"a", &[true; 11])),
            Err(CompressionError::Huffman)
        );
        assert_eq!(decoded(&[0xff]), Err(CompressionError::Huffman));
    }

    #[test]
    fn eos_and_a_cut_code_are_refused() {
        assert_eq!(decoded(&[0xff; 4]), Err(CompressionError::Huffman));
        assert_eq!(decoded(&[0xff; 40]), Err(CompressionError::Huffman));
        // The first 16 of the 28 bits of 2.
        assert_eq!(decoded(&[0xff, 0xff]), Err(CompressionError::Huffman));
    }
}
