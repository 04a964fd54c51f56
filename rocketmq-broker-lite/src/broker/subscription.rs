//! [`Subscription`]: what a group subscribes of a topic, ready to be applied to messages.

use rocketmq_protocol::TagHash;
use rocketmq_protocol::body::{ExpressionType, SubscriptionData};
use rocketmq_protocol::message::PropertiesRef;

use crate::filter::{Expression, FilterError};

/// A subscription as the client told it, with its SQL92 expression compiled.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) data: SubscriptionData,
    sql: Option<Result<Expression, FilterError>>,
}

impl Subscription {
    pub(super) fn new(data: SubscriptionData) -> Self {
        let is_sql = data.expression_type == ExpressionType::Sql92;
        let sql = is_sql.then(|| Expression::compile(&data.sub_string));
        Self { data, sql }
    }

    /// Whether messages are filtered by their properties.
    pub(super) fn is_sql(&self) -> bool {
        self.sql.is_some()
    }

    /// Why the expression is refused, if it is. No message is wanted then.
    pub(super) fn check(&self) -> Result<(), &FilterError> {
        match &self.sql {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a message with this tag hash passes. Tags that only share a hash pass too; clients look again.
    pub(super) fn wants_tag(&self, tag_hash: TagHash) -> bool {
        let codes = &self.data.code_set;
        self.is_sql()
            || codes.is_empty()
            || i32::try_from(tag_hash.get()).is_ok_and(|hash| codes.contains(&hash))
    }

    /// Whether a message with these properties, its tag and keys among them, passes the condition, where there is one.
    pub(super) fn wants_properties(&self, properties: PropertiesRef<'_>) -> bool {
        match &self.sql {
            None => true,
            Some(Ok(expression)) => expression.matches(|name| properties.get(name)),
            Some(Err(_)) => false,
        }
    }
}
