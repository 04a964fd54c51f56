//! Pulling messages.

use crate::request::{Segments, requests, same_shape};
use crate::{ByteString, LogPosition, QueueId, QueueOffset};
use bytes::Bytes;

/// Bits of [`PullMessage::sys_flag`]. Java: `common/sysflag/PullSysFlag.java`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullFlag(i32);

impl PullFlag {
    /// `commit_offset` is to be stored as the group's offset.
    pub const COMMIT_OFFSET: Self = Self(1);
    /// The broker may hold the request until a message arrives.
    pub const SUSPEND: Self = Self(2);
    /// The request carries its subscription.
    pub const SUBSCRIPTION: Self = Self(4);
    /// Sent by a lite pull consumer.
    pub const LITE_PULL: Self = Self(16);

    /// No bit.
    pub const fn none() -> Self {
        Self(0)
    }

    /// Takes the word of a request.
    pub const fn new(bits: i32) -> Self {
        Self(bits)
    }

    /// The word for a request.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// This, and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

requests! {
    /// Reads messages of one queue. Java: `protocol/header/PullMessageRequestHeader.java`.
    PullMessage = PULL_MESSAGE {
        consumer_group: ByteString => "consumerGroup",
        topic: ByteString => "topic",
        queue_id: QueueId => "queueId",
        /// First message wanted.
        queue_offset: QueueOffset => "queueOffset",
        max_messages: i32 => "maxMsgNums",
        /// See [`PullFlag`].
        sys_flag: i32 => "sysFlag",
        /// Offset to store for the group, with [`PullFlag::COMMIT_OFFSET`].
        commit_offset: QueueOffset => "commitOffset",
        /// Longest hold in milliseconds, with [`PullFlag::SUSPEND`].
        suspend_timeout_ms: i64 => "suspendTimeoutMillis",
        /// Filter expression, with [`PullFlag::SUBSCRIPTION`].
        subscription: Option<ByteString> => "subscription",
        /// Version of the subscription in milliseconds since 1970.
        subscription_version: i64 => "subVersion",
        /// `TAG` or `SQL92`.
        expression_type: Option<ByteString> => "expressionType",
        /// Largest answer in bytes.
        max_bytes: Option<i32> => "maxMsgBytes",
    } accepts [PULL_NOT_FOUND, PULL_RETRY_IMMEDIATELY, PULL_OFFSET_MOVED]
    -> PullReply {
        /// Broker id to ask next time: 0 is the master.
        suggested_broker_id: i64 => "suggestWhichBrokerId",
        next_begin_offset: QueueOffset => "nextBeginOffset",
        min_offset: QueueOffset => "minOffset",
        max_offset: QueueOffset => "maxOffset",
        topic_sys_flag: Option<i32> => "topicSysFlag",
        group_sys_flag: Option<i32> => "groupSysFlag",
        /// With `NO_PERMISSION`: 1 broker, 2 group, 3 topic, 4 broadcasting, 5 subscription.
        forbidden_type: Option<i32> => "forbiddenType",
    } body(messages: Segments);

    /// Reads one message by its position in the commit log. Java: `ViewMessageRequestHeader.java`.
    ViewMessage = VIEW_MESSAGE_BY_ID {
        position: LogPosition => "offset",
        topic: Option<ByteString> => "topic",
    } -> ViewMessageReply {
    } body(message: Bytes);
}

same_shape! {
    /// [`PullMessage`] of a lite pull consumer; brokers before 5.0 do not know it.
    LitePullMessage = LITE_PULL_MESSAGE as PullMessage;
}
