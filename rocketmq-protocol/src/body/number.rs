//! Integers that the C++ client prints as text; fastjson reads either.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// For `#[serde(deserialize_with)]`.
pub(super) fn number<'de, D: Deserializer<'de>, T: TryFrom<i64>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(NumberVisitor(PhantomData))
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer in range")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let number =
            i64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))?;
        self.visit_i64(number)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let number = text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))?;
        self.visit_i64(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::from_slice;

    #[derive(serde::Deserialize)]
    struct Body(#[serde(deserialize_with = "number")] i32);

    #[test]
    fn an_integer_is_read_bare_or_quoted_but_must_fit() {
        let read = |text: &str| from_slice::<Body>(text.as_bytes()).map(|body| body.0).ok();
        assert_eq!((read("-7"), read("\"-7\""), read("7")), (Some(-7), Some(-7), Some(7)));
        for text in ["2147483648", "\"-2147483649\"", "18446744073709551615", "\"x\"", "\"\"", "1.5", "true"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
