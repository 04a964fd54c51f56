//! [`Expression`]: a compiled SQL92 expression.

use std::cmp::Ordering;

use super::FilterError;
use super::parser;
use super::value::{Incomparable, Value};

/// A condition on the properties of a message.
#[derive(Debug)]
pub(crate) struct Expression(Node);

/// A part of an expression. The parser sees to it that what must be a condition is one.
#[derive(Debug)]
pub(super) enum Node {
    Property(Box<str>),
    /// `None` is `NULL`.
    Constant(Option<Constant>),
    Negated(Box<Node>),
    /// True of no property: a text is not true.
    PropertyAsCondition(Box<str>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Equal(Box<[Node; 2]>),
    IsNull(Box<Node>),
    Order(Box<[Node; 2]>, Order),
    /// Value, lower and upper bound.
    Between(Box<[Node; 3]>),
    NotBetween(Box<[Node; 3]>),
    In {
        property: Box<str>,
        among: Box<[Box<str>]>,
        not: bool,
    },
    Search {
        value: Box<Node>,
        place: Place,
        text: Box<str>,
        not: bool,
    },
}

#[derive(Debug)]
pub(super) enum Constant {
    Boolean(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    Text(Box<str>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Anywhere,
    Start,
    End,
}

type Outcome<T> = Result<Option<T>, Incomparable>;

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// Where Java refuses it too, and where it is longer or deeper nested than [`parser::MAX_LENGTH`] and [`parser::MAX_DEPTH`].
    pub(crate) fn compile(text: &str) -> Result<Self, FilterError> {
        parser::parse(text).map(Self)
    }

    /// Whether a message with these properties is wanted. False also where that cannot be told: a property is missing, or not
    /// the number that it is compared with.
    pub(crate) fn matches<'a>(&'a self, property: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.condition(&property) == Ok(Some(true))
    }

    /// What Java would print as the value.
    #[cfg(test)]
    pub(super) fn outcome<'a>(&'a self, property: impl Fn(&str) -> Option<&'a str>) -> &'static str {
        match self.0.condition(&property) {
            Ok(Some(true)) => "true",
            Ok(Some(false)) => "false",
            Ok(None) => "null",
            Err(Incomparable) => "thrown",
        }
    }
}

impl Constant {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Integer(value) => Value::Integer(*value),
            Self::Long(value) => Value::Long(*value),
            Self::Double(value) => Value::Double(*value),
            Self::Text(value) => Value::Text(value),
        }
    }
}

impl Order {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }

    /// Null if one of both is.
    fn test(self, left: Option<Value<'_>>, right: Option<Value<'_>>) -> Outcome<bool> {
        let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
        left.order(right).map(|ordering| Some(self.holds(ordering)))
    }
}

impl Place {
    fn finds(self, text: &str, wanted: &str) -> bool {
        match self {
            Self::Anywhere => text.contains(wanted),
            Self::Start => text.starts_with(wanted),
            Self::End => text.ends_with(wanted),
        }
    }
}

impl Node {
    fn value<'a>(&'a self, property: &impl Fn(&str) -> Option<&'a str>) -> Outcome<Value<'a>> {
        match self {
            Self::Property(name) => Ok(property(name).map(Value::Text)),
            Self::Constant(constant) => Ok(constant.as_ref().map(Constant::value)),
            Self::Negated(node) => Ok(node.value(property)?.and_then(Value::negated)),
            condition => Ok(condition.condition(property)?.map(Value::Boolean)),
        }
    }

    /// The value of what is a condition.
    fn condition<'a>(&'a self, property: &impl Fn(&str) -> Option<&'a str>) -> Outcome<bool> {
        Ok(match self {
            Self::Property(name) | Self::PropertyAsCondition(name) => property(name).map(|_| false),
            Self::Constant(Some(Constant::Boolean(value))) => Some(*value),
            Self::Constant(_) | Self::Negated(_) => None,
            Self::Not(node) => node.condition(property)?.map(|value| !value),
            Self::And(nodes) => return decide(nodes, false, property),
            Self::Or(nodes) => return decide(nodes, true, property),
            Self::Equal(sides) => {
                let [left, right] = &**sides;
                match (left.value(property)?, right.value(property)?) {
                    (None, None) => Some(true),
                    (None, Some(_)) => None,
                    (Some(_), None) => Some(false),
                    (Some(left), Some(right)) => Some(left.compare(right)?.is_eq()),
                }
            }
            Self::IsNull(node) => Some(node.value(property)?.is_none()),
            Self::Order(sides, order) => {
                let [left, right] = &**sides;
                // A missing left side is decisive: the right one may be incomparable.
                match left.value(property)? {
                    None => None,
                    left => order.test(left, right.value(property)?)?,
                }
            }
            Self::Between(nodes) => {
                return between(nodes, Order::GreaterOrEqual, Order::LessOrEqual, false, property);
            }
            Self::NotBetween(nodes) => return between(nodes, Order::Less, Order::Greater, true, property),
            Self::In { property: name, among, not } => {
                property(name).map(|value| among.iter().any(|text| **text == *value) != *not)
            }
            Self::Search { text, .. } if text.is_empty() => Some(false),
            Self::Search { value, place, text, not } => match value.value(property)? {
                Some(Value::Text(value)) => Some(place.finds(value, text) != *not),
                _ => Some(false),
            },
        })
    }
}

/// Left to right until one of the conditions is `decisive`; null if one of them is.
fn decide<'a>(
    nodes: &'a [Node],
    decisive: bool,
    property: &impl Fn(&str) -> Option<&'a str>,
) -> Outcome<bool> {
    let mut undecided = false;
    for node in nodes {
        match node.condition(property)? {
            Some(value) if value == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => undecided = true,
        }
    }
    Ok((!undecided).then_some(!decisive))
}

/// Two comparisons of one value, the second of which is made only if the first is not `decisive`.
fn between<'a>(
    nodes: &'a [Node; 3],
    lower: Order,
    upper: Order,
    decisive: bool,
    property: &impl Fn(&str) -> Option<&'a str>,
) -> Outcome<bool> {
    let [value, low, high] = nodes;
    let value = value.value(property)?;
    if value.is_none() {
        return Ok(None);
    }
    let first = lower.test(value, low.value(property)?)?;
    if first == Some(decisive) {
        return Ok(first);
    }
    let second = upper.test(value, high.value(property)?)?;
    Ok(if second == Some(decisive) || first.is_some() { second } else { None })
}
