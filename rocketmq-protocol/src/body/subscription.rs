//! [`SubscriptionData`]: which messages of a topic a group wants.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::number::number;
use crate::message::java_string_hash;

wire_enum! {
    /// The language a subscription is written in; no name at all stands for tags. Java: `common/filter/ExpressionType.java`.
    ExpressionType {
        /// `*`, or tags joined by `||`.
        #[default]
        Tag = "TAG" | "",
        /// A condition on message properties.
        Sql92 = "SQL92",
    }
}

/// Which messages of one topic a group wants. Java: `protocol/heartbeat/SubscriptionData.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionData {
    /// Whether a Java class filters; a 3.x feature, false since.
    pub class_filter_mode: bool,
    /// Java's string hash of each tag: the broker filters by it, so that other tags may slip through.
    pub code_set: BTreeSet<i32>,
    /// The language of `sub_string`.
    pub expression_type: ExpressionType,
    /// The expression; `*` stands for everything.
    pub sub_string: String,
    /// Milliseconds since the epoch when it was made: the newer of two subscriptions of a group wins.
    #[serde(deserialize_with = "number")]
    pub sub_version: i64,
    /// The wanted tags; empty stands for all.
    pub tags_set: BTreeSet<String>,
    /// The topic.
    pub topic: String,
}

impl SubscriptionData {
    /// Everything in `topic`.
    pub const ALL: &'static str = "*";

    /// A subscription to the messages of `topic` with one of the tags in `expression`: `*` or nothing stands for all,
    /// `||` separates, blanks around a tag are dropped and empty tags skipped. `version_ms` is the time now.
    ///
    /// An expression of separators alone gives no tags, which again stands for all.
    pub fn parse(topic: impl Into<String>, expression: &str, version_ms: i64) -> Self {
        let mut subscription = Self { topic: topic.into(), sub_version: version_ms, ..Self::default() };
        if expression.is_empty() || expression == Self::ALL {
            subscription.sub_string = Self::ALL.to_owned();
            return subscription;
        }
        subscription.sub_string = expression.to_owned();
        for tag in expression.split("||").map(str::trim).filter(|tag| !tag.is_empty()) {
            subscription.code_set.insert(java_string_hash(tag));
            subscription.tags_set.insert(tag.to_owned());
        }
        subscription
    }

    /// A subscription to the messages of `topic` whose properties satisfy an SQL92 `expression`, which is not looked
    /// into here. `version_ms` is the time now.
    pub fn sql92(topic: impl Into<String>, expression: impl Into<String>, version_ms: i64) -> Self {
        Self {
            topic: topic.into(),
            expression_type: ExpressionType::Sql92,
            sub_string: expression.into(),
            sub_version: version_ms,
            ..Self::default()
        }
    }
}

/// Asks a broker whether it accepts a subscription. Java: `protocol/body/CheckClientRequestBody.java`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CheckClientRequest {
    /// The client that asks.
    pub client_id: String,
    /// The group it consumes in.
    pub group: String,
    /// The namespace, if the client uses one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The subscription.
    pub subscription_data: SubscriptionData,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_read_as_the_java_client_reads_it() {
        let cases: [(&str, &str, &[&str], &[i32]); 7] = [
            ("*", "*", &[], &[]),
            ("", "*", &[], &[]),
            ("TagA", "TagA", &["TagA"], &[2598919]),
            ("TagA || TagB", "TagA || TagB", &["TagA", "TagB"], &[2598919, 2598920]),
            ("TagA||TagB|| ", "TagA||TagB|| ", &["TagA", "TagB"], &[2598919, 2598920]),
            ("标签 || x", "标签 || x", &["x", "标签"], &[120, 857175]),
            ("||", "||", &[], &[]),
        ];
        for (expression, sub_string, tags, codes) in cases {
            let parsed = SubscriptionData::parse("T", expression, 1);
            assert_eq!(parsed.sub_string, sub_string);
            assert!(parsed.tags_set.iter().eq(tags), "{expression}: {:?}", parsed.tags_set);
            assert!(parsed.code_set.iter().eq(codes), "{expression}: {:?}", parsed.code_set);
        }
    }

    #[test]
    fn an_absent_expression_type_means_tags() {
        for text in
            ["{}", r#"{"expressionType":null}"#, r#"{"expressionType":""}"#, r#"{"expressionType":"TAG"}"#]
        {
            let read: SubscriptionData = crate::json::from_slice(text.as_bytes()).unwrap();
            assert_eq!(read.expression_type, ExpressionType::Tag);
        }
        assert_eq!(ExpressionType::from_name("SQL92"), Some(ExpressionType::Sql92));
        assert_eq!(ExpressionType::from_name("sql"), None);
    }
}
