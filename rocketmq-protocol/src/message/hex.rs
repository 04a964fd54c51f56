//! Upper-case hexadecimal digits, which message ids consist of. The formatter of the standard library takes many times
//! longer, and every send makes one.

/// The two digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789ABCDEF";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// The lowest `N` digits of `value`, an even number.
pub(super) fn hex_digits<const N: usize>(value: u128) -> [u8; N] {
    let mut digits = [0; N];
    let bytes = value.to_be_bytes();
    for (pair, byte) in digits.chunks_exact_mut(2).rev().zip(bytes.into_iter().rev()) {
        pair.copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_formatter() {
        assert_eq!(hex_digits::<8>(0x0012_3abc_def0), *b"3ABCDEF0");
        assert_eq!(hex_digits::<16>(0), *b"0000000000000000");
        assert_eq!(hex_digits::<32>(u128::MAX), [b'F'; 32]);
    }
}
