//! Upper-case hexadecimal digits, which message ids consist of. The formatter of the standard library takes many times
//! longer, and every send makes one.

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// The lowest `N` digits of `value`.
pub(super) fn hex_digits<const N: usize>(value: u128) -> [u8; N] {
    std::array::from_fn(|index| DIGITS[(value >> ((N - 1 - index) * 4) & 0xf) as usize])
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
