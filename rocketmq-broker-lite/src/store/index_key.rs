//! [`IndexKey`]: what a message is found by in the index.

use rocketmq_protocol::message::{StoredMessageRef, SysFlag, java_string_hash_on, property};

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
    pub(super) fn of(message: &StoredMessageRef<'a>) -> IndexKeys<'a> {
        if message.sys_flag().transaction() == SysFlag::TRANSACTION_ROLLBACK {
            return IndexKeys::default();
        }
        let names = [property::UNIQ_KEY, property::KEYS, property::TAGS];
        let [unique, words, tag] = message.properties().values(names);
        IndexKeys { unique, words, tag }
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

/// The keys of a message that are still to come, from [`IndexKey::of`].
#[derive(Default)]
pub(super) struct IndexKeys<'a> {
    unique: Option<&'a str>,
    words: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> Iterator for IndexKeys<'a> {
    type Item = IndexKey<'a>;

    #[inline]
    fn next(&mut self) -> Option<IndexKey<'a>> {
        if let Some(unique) = self.unique.take() {
            return Some(IndexKey::Key(unique));
        }
        while let Some(words) = self.words.take() {
            let (word, rest) = words.split_once(' ').map_or((words, None), |(word, rest)| (word, Some(rest)));
            self.words = rest;
            if !word.is_empty() {
                return Some(IndexKey::Key(word));
            }
        }
        self.tag.take().map(IndexKey::Tag)
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
