//! Integers (RFC 7541 section 5.1): a prefix within the first byte, then seven bits a byte.

use super::decoder::CompressionError;

/// Reads an integer whose first byte was `first`, with a prefix of `bits` bits, from `input`.
///
/// # Errors
/// Beyond 32 bits, or beyond the five bytes that 32 bits take; and at the end of the input.
pub(super) fn read(input: &mut &[u8], first: u8, bits: u32) -> Result<u32, CompressionError> {
    let mask = prefix_mask(bits);
    let prefix = first & mask;
    if prefix < mask {
        return Ok(prefix.into());
    }
    let mut value = u64::from(mask);
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = input.split_first().ok_or(CompressionError::Truncated)?;
        *input = rest;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| CompressionError::IntegerOverflow);
        }
    }
    Err(CompressionError::IntegerOverflow)
}

/// Appends `value` with a prefix of `bits` bits; `pattern` is what the first byte says above them.
pub(super) fn write(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let mask = prefix_mask(bits);
    let Some(mut rest) = value.checked_sub(usize::from(mask)) else {
        // Less than the mask, so it is one byte.
        out.push(pattern | value as u8);
        return;
    };
    out.push(pattern | mask);
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

const fn prefix_mask(bits: u32) -> u8 {
    u8::MAX >> (u8::BITS - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bits: u32, bytes: &[u8]) -> Result<(u32, usize), CompressionError> {
        let (&first, mut rest) = bytes.split_first().unwrap();
        let value = read(&mut rest, first, bits)?;
        Ok((value, rest.len()))
    }

    #[test]
    fn the_examples_of_rfc_7541_c_1() {
        for (bits, value, bytes) in [
            (5, 10, &[0x0a][..]),
            (5, 1337, &[0x1f, 0x9a, 0x0a]),
            (8, 42, &[0x2a]),
        ] {
            assert_eq!(decode(bits, bytes), Ok((value, 0)));
            let mut out = Vec::new();
            write(&mut out, 0, bits, value as usize);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn every_prefix_carries_every_magnitude() {
        for bits in 1..=8 {
            for exponent in 0..32 {
                for value in [(1u32 << exponent) - 1, 1 << exponent, u32::MAX] {
                    let mut out = Vec::new();
                    write(&mut out, 0, bits, value as usize);
                    out.push(0xaa);
                    assert_eq!(decode(bits, &out), Ok((value, 1)), "{value} in {bits}");
                }
            }
        }
    }

    #[test]
    fn what_exceeds_32_bits_is_refused() {
        let overflow = Err(CompressionError::IntegerOverflow);
        assert_eq!(
            decode(7, &[0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f]),
            Ok((u32::MAX, 0))
        );
        assert_eq!(decode(7, &[0x7f, 0x81, 0xff, 0xff, 0xff, 0x0f]), overflow);
        // A zero in more bytes than 32 bits take.
        assert_eq!(
            decode(7, &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            overflow
        );
        assert_eq!(decode(7, &[0x7f; 1]), Err(CompressionError::Truncated));
        assert_eq!(decode(7, &[0x7f, 0xff]), Err(CompressionError::Truncated));
    }
}
