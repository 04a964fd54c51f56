//! [`IndexKey`]: what a message is found by in the index.

use rocketmq_protocol::message::{StoredMessageRef, SysFlag, java_string_hash_on, property};

const UNIQ_KEY: &[u8] = property::UNIQ_KEY.as_bytes();
const KEYS: &[u8] = property::KEYS.as_bytes();
const TAGS: &[u8] = property::TAGS.as_bytes();

/// A key of a message. Java: `store/index/IndexService.java`, `buildIndex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKey<'a> {
    /// The unique key of the producer, or a word of the property `KEYS`.
    Key(&'a str),
    /// The tag. Java brokers before 5.4 did not index it.
    Tag(&'a str),
}

impl<'a> IndexKey<'a> {
    /// The keys that `message` is indexed under, in the order of Java's index items: the unique key, the words of `KEYS`, the tag.
    /// None of a transaction that was rolled back.
    pub(super) fn of(message: &StoredMessageRef<'a>) -> impl Iterator<Item = Self> + use<'a> {
        let (mut unique, mut keys, mut tag) = (None, None, None);
        if message.sys_flag().transaction() != SysFlag::TRANSACTION_ROLLBACK {
            for (name, value) in message.properties().raw_iter() {
                let slot = match name {
                    UNIQ_KEY => &mut unique,
                    KEYS => &mut keys,
                    TAGS => &mut tag,
                    _ => continue,
                };
                *slot = std::str::from_utf8(value).ok().or(*slot);
            }
        }
        let words = keys.into_iter().flat_map(|keys| keys.split(' ').filter(|word| !word.is_empty()));
        unique.into_iter().chain(words).map(Self::Key).chain(tag.map(Self::Tag))
    }

    /// What stands for the key in the index: `String.hashCode` of `topic#key`, or of `topic#T#tag`, without its sign.
    pub(super) fn hash(self, topic: &str) -> i32 {
        let (infix, text) = match self {
            Self::Key(key) => ("#", key),
            Self::Tag(tag) => ("#T#", tag),
        };
        [topic, infix, text].into_iter().fold(0, java_string_hash_on).checked_abs().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::message::java_string_hash;

    use super::*;

    #[test]
    fn the_hash_is_javas_without_its_sign() {
        assert_eq!(IndexKey::Key("key7").hash("orders"), java_string_hash("orders#key7").abs());
        assert_eq!(IndexKey::Tag("A").hash("orders"), java_string_hash("orders#T#A").abs());
    }

    #[test]
    fn the_one_hash_that_has_no_opposite_becomes_0() {
        assert_eq!(java_string_hash("t#qolygtg"), i32::MIN);
        assert_eq!(IndexKey::Key("qolygtg").hash("t"), 0);
    }
}
