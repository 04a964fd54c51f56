//! Trace records: one line of text each, as Java's tools read them.
//!
//! Fields are separated by 0x01, a record ends with 0x02, what is missing is `null`.
//! Java: `client/trace/TraceDataEncoder.java`.

use std::fmt::{self, Display, Write};

const FIELD: char = '\u{1}';
const END: char = '\u{2}';

/// What is traced. Times are milliseconds since 1970, durations milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Sent.
    Pub {
        timestamp: i64,
        region: String,
        group: String,
        topic: String,
        message_id: String,
        tags: Option<String>,
        keys: Option<String>,
        broker_addr: String,
        body_len: usize,
        cost: u128,
        kind: PubKind,
        offset_message_id: String,
        success: bool,
    },
    /// About to be consumed.
    SubBefore {
        timestamp: i64,
        region: Option<String>,
        group: String,
        request_id: String,
        message_id: String,
        reconsume_times: i32,
        keys: Option<String>,
    },
    /// Consumed.
    SubAfter {
        request_id: String,
        message_id: String,
        cost: u128,
        code: ContextCode,
        keys: Option<String>,
        timestamp: i64,
        group: String,
    },
    /// A transaction ended.
    EndTransaction {
        timestamp: i64,
        region: String,
        group: String,
        topic: String,
        message_id: String,
        tags: Option<String>,
        keys: Option<String>,
        broker_addr: String,
        transaction_id: String,
        state: &'static str,
        from_check: bool,
    },
}

/// Java: `common/message/MessageType.java`, by ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PubKind {
    Normal = 0,
    Half = 1,
    Delay = 3,
}

/// Java: `client/consumer/listener/ConsumeReturnType.java`, by ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContextCode {
    Success = 0,
    Exception = 2,
    Failed = 4,
}

impl Record {
    /// What the record can be found by: the message's id and keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let (message_id, keys) = match self {
            Self::Pub { message_id, keys, .. }
            | Self::SubBefore { message_id, keys, .. }
            | Self::SubAfter { message_id, keys, .. }
            | Self::EndTransaction { message_id, keys, .. } => (message_id, keys),
        };
        let keys = keys.as_deref().unwrap_or_default().split_ascii_whitespace();
        std::iter::once(message_id.as_str()).chain(keys)
    }

    /// Appends the record.
    pub(super) fn encode(&self, out: &mut String) {
        let mut fields = Fields { out, is_first: true };
        match self {
            Self::Pub {
                timestamp,
                region,
                group,
                topic,
                message_id,
                tags,
                keys,
                broker_addr,
                body_len,
                cost,
                kind,
                offset_message_id,
                success,
            } => {
                fields.put("Pub").put(timestamp).put(region).put(group).put(topic).put(message_id);
                fields.maybe(tags).maybe(keys).put(broker_addr).put(body_len).put(cost);
                fields.put(*kind as u8).put(offset_message_id).put(success);
            }
            Self::SubBefore { timestamp, region, group, request_id, message_id, reconsume_times, keys } => {
                fields.put("SubBefore").put(timestamp).maybe(region).put(group).put(request_id);
                fields.put(message_id).put(reconsume_times).maybe(keys);
            }
            Self::SubAfter { request_id, message_id, cost, code, keys, timestamp, group } => {
                fields.put("SubAfter").put(request_id).put(message_id).put(cost);
                fields.put(*code == ContextCode::Success).maybe(keys).put(*code as u8);
                fields.put(timestamp).put(group);
            }
            Self::EndTransaction {
                timestamp,
                region,
                group,
                topic,
                message_id,
                tags,
                keys,
                broker_addr,
                transaction_id,
                state,
                from_check,
            } => {
                fields.put("EndTransaction").put(timestamp).put(region).put(group).put(topic);
                fields.put(message_id).maybe(tags).maybe(keys).put(broker_addr);
                fields.put(PubKind::Normal as u8).put(transaction_id).put(state).put(from_check);
            }
        }
        out.push(END);
    }
}

struct Fields<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl Fields<'_> {
    fn put(&mut self, value: impl Display) -> &mut Self {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(FIELD);
        }
        let _: fmt::Result = write!(self.out, "{value}"); // into a string, nothing fails
        self
    }

    fn maybe(&mut self, value: &Option<String>) -> &mut Self {
        self.put(value.as_deref().unwrap_or("null"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors were written by the Java classes: `tests/golden/trace.json`.
    #[test]
    fn records_are_the_text_that_java_writes() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/trace.json")).unwrap();
        let text = |name: &str| {
            let cases = vectors["cases"].as_array().unwrap();
            let case = cases.iter().find(|case| case["name"] == name).unwrap();
            case["text"].as_str().unwrap().to_owned()
        };
        let id = || "7F0000010A1B18B4AAC2001122330000".to_owned();
        let request_id = || "7F0000010A1B18B4AAC2001122330009".to_owned();
        let keys = || Some("k1 k2".to_owned());
        let (timestamp, region, group) =
            (1_700_000_000_123, || "DefaultRegion".to_owned(), || "pg".to_owned());
        let broker_addr = || "10.0.0.1:10911".to_owned();
        let encoded = |record: &Record| {
            let mut out = String::new();
            record.encode(&mut out);
            out
        };
        let published = Record::Pub {
            timestamp,
            region: region(),
            group: group(),
            topic: "TopicTest".into(),
            message_id: id(),
            tags: Some("TagA".into()),
            keys: keys(),
            broker_addr: broker_addr(),
            body_len: 5,
            cost: 15,
            kind: PubKind::Normal,
            offset_message_id: "0A00000100002A9F0000000000001234".into(),
            success: true,
        };
        assert_eq!(encoded(&published), text("trace_Pub_1_LOCAL"));
        assert_eq!(published.keys().collect::<Vec<_>>(), [id().as_str(), "k1", "k2"]);
        let before = Record::SubBefore {
            timestamp,
            region: Some(region()),
            group: group(),
            request_id: request_id(),
            message_id: id(),
            reconsume_times: 0,
            keys: keys(),
        };
        assert_eq!(encoded(&before), text("trace_SubBefore_1_LOCAL"));
        let code = ContextCode::Success;
        let after = Record::SubAfter {
            request_id: request_id(),
            message_id: id(),
            cost: 15,
            code,
            keys: keys(),
            timestamp,
            group: group(),
        };
        assert_eq!(encoded(&after), text("trace_SubAfter_1_LOCAL"));
        let end = Record::EndTransaction {
            timestamp,
            region: region(),
            group: group(),
            topic: "TopicTest".into(),
            message_id: id(),
            tags: Some("TagA".into()),
            keys: keys(),
            broker_addr: broker_addr(),
            transaction_id: id(),
            state: "COMMIT_MESSAGE",
            from_check: false,
        };
        assert_eq!(encoded(&end), text("trace_EndTransaction_1_LOCAL"));
    }

    #[test]
    fn what_is_missing_is_null() {
        let mut out = String::new();
        Record::SubBefore {
            timestamp: 1,
            region: None,
            group: "g".into(),
            request_id: "r".into(),
            message_id: "m".into(),
            reconsume_times: 3,
            keys: None,
        }
        .encode(&mut out);
        assert_eq!(out, "SubBefore\u{1}1\u{1}null\u{1}g\u{1}r\u{1}m\u{1}3\u{1}null\u{2}");
    }
}
