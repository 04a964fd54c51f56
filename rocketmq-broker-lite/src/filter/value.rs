//! [`Value`]: what an operand is for one message, and how two of them compare. Java:
//! `filter/expression/ComparisonExpression.java`, `__compare`.

use std::cmp::Ordering;

/// A value that is not null. Integers and longs are told apart because a text is parsed as what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Boolean(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    Text(&'a str),
}

/// The values do not compare: Java throws, and the message does not match, whatever else the expression says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incomparable;

impl Value<'_> {
    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Integer(_) | Self::Long(_) | Self::Double(_))
    }

    /// Null for what is no number.
    pub(super) fn negated(self) -> Option<Self> {
        match self {
            Self::Integer(number) => Some(Self::Integer(number.wrapping_neg())),
            Self::Long(number) => Some(Self::Long(number.wrapping_neg())),
            Self::Double(number) => Some(Self::Double(-number)),
            Self::Boolean(_) | Self::Text(_) => None,
        }
    }

    /// Values that can never be equal count as less.
    pub(super) fn compare(self, right: Self) -> Result<Ordering, Incomparable> {
        Ok(match (self, right) {
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(&right),
            (Self::Boolean(_), Self::Text(_)) => return Err(Incomparable),
            (Self::Integer(left), Self::Integer(right)) => left.cmp(&right),
            (Self::Integer(left), Self::Long(right)) => i64::from(left).cmp(&right),
            (Self::Integer(left), Self::Double(right)) => f64::from(left).total_cmp(&right),
            (Self::Integer(left), Self::Text(right)) => left.cmp(&integer(right)?),
            (Self::Long(left), Self::Integer(right)) => left.cmp(&i64::from(right)),
            (Self::Long(left), Self::Long(right)) => left.cmp(&right),
            (Self::Long(left), Self::Double(right)) => (left as f64).total_cmp(&right),
            (Self::Long(left), Self::Text(right)) => left.cmp(&integer(right)?),
            (Self::Double(left), Self::Integer(right)) => left.total_cmp(&f64::from(right)),
            (Self::Double(left), Self::Long(right)) => left.total_cmp(&(right as f64)),
            (Self::Double(left), Self::Double(right)) => left.total_cmp(&right),
            (Self::Double(left), Self::Text(right)) => left.total_cmp(&double(right)?),
            (Self::Text(left), Self::Boolean(right)) => left.eq_ignore_ascii_case("true").cmp(&right),
            (Self::Text(left), Self::Integer(right)) => integer::<i32>(left)?.cmp(&right),
            (Self::Text(left), Self::Long(right)) => integer::<i64>(left)?.cmp(&right),
            (Self::Text(left), Self::Double(right)) => double(left)?.total_cmp(&right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Boolean(_), _) | (_, Self::Boolean(_)) => Ordering::Less,
        })
    }

    /// As [`Value::compare`] for `<` and its like, where two texts are numbers.
    pub(super) fn order(self, right: Self) -> Result<Ordering, Incomparable> {
        match (self, right) {
            (Self::Text(left), Self::Text(right)) => Ok(double(left)?.total_cmp(&double(right)?)),
            _ => self.compare(right),
        }
    }
}

/// As Java's `Integer.valueOf` and `Long.valueOf`; digits are ASCII only.
fn integer<T: std::str::FromStr>(text: &str) -> Result<T, Incomparable> {
    text.parse().map_err(|_| Incomparable)
}

/// As Java's `Double.valueOf`: blanks around it, `NaN`, `Infinity` and a final `f` or `d` are allowed. Hexadecimal floats are not read.
fn double(text: &str) -> Result<f64, Incomparable> {
    let text = text.trim_matches(|char| char <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let number = match unsigned {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => f64::INFINITY,
        _ if unsigned.starts_with(|char: char| char.is_ascii_digit() || char == '.') => {
            let digits = unsigned.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(unsigned);
            digits.parse().map_err(|_| Incomparable)?
        }
        _ => return Err(Incomparable),
    };
    Ok(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_what_java_takes_for_them() {
        for (text, expected) in [
            ("1", 1.0),
            (" +1.5e3\t", 1500.0),
            ("-.5", -0.5),
            ("5.", 5.0),
            ("5d", 5.0),
            ("5.5F", 5.5),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e999", f64::INFINITY),
        ] {
            assert_eq!(double(text), Ok(expected), "{text}");
        }
        assert!(double("NaN").unwrap().is_nan());
        for text in ["", " ", "inf", "infinity", "nan", "5ff", "e5", "1e", "+-1", "1_000", "0x1p3", ".", "d"]
        {
            assert_eq!(double(text), Err(Incomparable), "{text}");
        }
    }

    #[test]
    fn nothing_is_above_not_a_number_and_zeros_differ_by_sign() {
        let order = |left, right| Value::Double(left).order(Value::Double(right));
        assert_eq!(order(f64::NAN, f64::INFINITY), Ok(Ordering::Greater));
        assert_eq!(order(-0.0, 0.0), Ok(Ordering::Less));
    }
}
