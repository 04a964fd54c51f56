//! [`Filter`]: which messages of a topic a consumer wants.

use rocketmq_protocol::body::{ExpressionType, SubscriptionData};

/// Which messages of a topic a consumer wants. The members of a group must all have the same subscriptions: the broker
/// knows one per group and topic, and messages that the others do not want are lost to all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// Every message.
    #[default]
    All,
    /// Messages with one of these tags.
    Tags(Vec<String>),
    /// Messages whose properties satisfy this SQL92 condition, such as `region = 'eu' AND amount > 10`.
    Sql(String),
}

impl Filter {
    /// Messages with one of these tags.
    pub fn tags<T: Into<String>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self::Tags(tags.into_iter().map(Into::into).collect())
    }

    /// Messages whose properties satisfy an SQL92 condition. The broker must allow it (`enablePropertyFilter=true`).
    pub fn sql(condition: impl Into<String>) -> Self {
        Self::Sql(condition.into())
    }

    /// The subscription to `topic` that says so; `version_ms` is the time now.
    ///
    /// # Errors
    /// Text that says what is wrong: no tags, a tag that no message can have, or an empty condition.
    pub(crate) fn subscription(&self, topic: &str, version_ms: i64) -> Result<SubscriptionData, String> {
        match self {
            Self::All => Ok(SubscriptionData::parse(topic, SubscriptionData::ALL, version_ms)),
            Self::Tags(tags) if tags.is_empty() => {
                Err("a filter without tags selects nothing; use Filter::All for everything".to_owned())
            }
            Self::Tags(tags) => match tags.iter().find(|tag| !is_tag(tag)) {
                Some(tag) => {
                    Err(format!("{tag:?} is not a tag: blank, `*`, with blanks around it or with || in it"))
                }
                None => Ok(SubscriptionData::parse(topic, &tags.join("||"), version_ms)),
            },
            Self::Sql(condition) if condition.trim().is_empty() => {
                Err("the SQL92 condition is empty".to_owned())
            }
            Self::Sql(condition) => Ok(SubscriptionData::sql92(topic, condition, version_ms)),
        }
    }
}

/// As the subscription's expression would give it back.
fn is_tag(tag: &str) -> bool {
    !tag.is_empty() && tag != SubscriptionData::ALL && tag.trim() == tag && !tag.contains("||")
}

impl From<&str> for Filter {
    /// Reads RocketMQ's tag expressions: `*` or nothing for everything, else tags separated by `||`.
    fn from(expression: &str) -> Self {
        let parsed = SubscriptionData::parse("", expression, 0);
        if parsed.tags_set.is_empty() { Self::All } else { Self::tags(parsed.tags_set) }
    }
}

/// Whether a message with this tag, looked for only where it matters, is wanted. The broker goes by the tag's hash, so that
/// it may let others through.
pub(crate) fn selects<'a>(subscription: &SubscriptionData, tag: impl FnOnce() -> Option<&'a str>) -> bool {
    subscription.expression_type != ExpressionType::Tag
        || subscription.tags_set.is_empty()
        || tag().is_some_and(|tag| subscription.tags_set.contains(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[&str]) -> SubscriptionData {
        Filter::tags(tags.iter().copied()).subscription("T", 7).unwrap()
    }

    #[test]
    fn a_filter_becomes_the_subscription_that_java_makes_of_its_expression() {
        assert_eq!(Filter::All.subscription("T", 7).unwrap(), SubscriptionData::parse("T", "*", 7));
        assert_eq!(tags(&["A", "B"]), SubscriptionData::parse("T", "A||B", 7));
        assert_eq!(Filter::from("A || B").subscription("T", 7).unwrap(), tags(&["A", "B"]));
        assert_eq!(Filter::from("*"), Filter::All);
        let sql = Filter::sql("a > 1").subscription("T", 7).unwrap();
        assert_eq!((sql.expression_type, sql.sub_string.as_str()), (ExpressionType::Sql92, "a > 1"));
    }

    #[test]
    fn a_filter_that_could_select_nothing_or_everything_by_accident_is_refused() {
        for bad in [Filter::tags([""]), Filter::tags(["*"]), Filter::tags([" A"]), Filter::tags(["A||B"])] {
            let error = bad.subscription("T", 7).unwrap_err();
            assert!(error.contains("is not a tag"), "{error}");
        }
        assert!(Filter::Tags(Vec::new()).subscription("T", 7).is_err());
        assert!(Filter::sql(" ").subscription("T", 7).is_err());
    }

    #[test]
    fn a_tag_that_only_shares_the_hash_is_not_selected() {
        let subscription = tags(&["Aa"]); // "BB" has the same Java hash
        assert!(selects(&subscription, || Some("Aa")));
        assert!(!selects(&subscription, || Some("BB")));
        assert!(!selects(&subscription, || None));
        assert!(selects(&Filter::All.subscription("T", 7).unwrap(), || None));
        assert!(selects(&Filter::sql("a > 1").subscription("T", 7).unwrap(), || None));
    }
}
