//! [`Namespace`]: a prefix that keeps the topics and groups of one user apart from those of others.
//!
//! Java: `remoting/protocol/NamespaceUtil.java`. The prefix goes over the wire and never reaches the user.

use std::borrow::Cow;

use rocketmq_protocol::ByteString;
use rocketmq_protocol::body::MessageQueue;
use rocketmq_protocol::name::{
    AUTO_CREATE_TOPIC, BENCHMARK_TOPIC, CHECKPOINT_TOPIC, DLQ_PREFIX, NOT_SENDABLE, RETRY_PREFIX,
    SYSTEM_PREFIX, TRACE_TOPIC,
};

/// Begins the groups of the system's own consumers.
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// The namespace of a client, if it has one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Namespace(Option<ByteString>);

impl Namespace {
    pub(crate) fn new(name: &str) -> Self {
        Self(Some(name).filter(|name| !name.trim().is_empty()).map(ByteString::from))
    }

    /// What it is called.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// A topic or group as brokers know it. One that has the prefix already keeps it, the system's own get none.
    pub(crate) fn wrap(&self, name: &ByteString) -> ByteString {
        let Some(namespace) = self.name() else { return name.clone() };
        let (before, bare) = parts(name);
        if bare.is_empty() || is_system(name) || strip(bare, namespace).is_some() {
            return name.clone();
        }
        format!("{before}{namespace}%{bare}").into()
    }

    /// As [`wrap`](Self::wrap), a queue.
    pub(crate) fn wrap_queue<'a>(&self, queue: &'a MessageQueue) -> Cow<'a, MessageQueue> {
        if self.0.is_none() {
            return Cow::Borrowed(queue);
        }
        Cow::Owned(MessageQueue { topic: self.wrap(&queue.topic), ..queue.clone() })
    }

    /// As [`unwrap`](Self::unwrap), a queue.
    pub(crate) fn unwrap_queue(&self, mut queue: MessageQueue) -> MessageQueue {
        if self.0.is_some() {
            queue.topic = self.unwrap(&queue.topic).as_ref().into();
        }
        queue
    }

    /// A topic or group as the user knows it.
    pub(crate) fn unwrap<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let Some(namespace) = self.name() else { return Cow::Borrowed(name) };
        let (before, bare) = parts(name);
        match strip(bare, namespace) {
            Some(bare) if before.is_empty() => Cow::Borrowed(bare),
            Some(bare) => Cow::Owned(format!("{before}{bare}")),
            None => Cow::Borrowed(name),
        }
    }
}

/// What stays in front: the prefix of retry and dead-letter topics.
fn parts(name: &str) -> (&str, &str) {
    for prefix in [RETRY_PREFIX, DLQ_PREFIX] {
        if let Some(bare) = name.strip_prefix(prefix) {
            return (prefix, bare);
        }
    }
    ("", name)
}

fn strip<'a>(bare: &'a str, namespace: &str) -> Option<&'a str> {
    bare.strip_prefix(namespace)?.strip_prefix('%')
}

fn is_system(name: &str) -> bool {
    NOT_SENDABLE.contains(&name)
        || [AUTO_CREATE_TOPIC, BENCHMARK_TOPIC, TRACE_TOPIC, CHECKPOINT_TOPIC].contains(&name)
        || name.starts_with(SYSTEM_PREFIX)
        || name.starts_with(SYSTEM_GROUP_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_wrapped_once_as_java_does() {
        let namespace = Namespace::new("MQ_INST_1");
        for (bare, wrapped) in [
            ("orders", "MQ_INST_1%orders"),
            ("%RETRY%group", "%RETRY%MQ_INST_1%group"),
            ("%DLQ%group", "%DLQ%MQ_INST_1%group"),
            ("TBW102", "TBW102"),
            ("rmq_sys_wheel_timer", "rmq_sys_wheel_timer"),
            ("CID_RMQ_SYS_TRANS", "CID_RMQ_SYS_TRANS"),
        ] {
            assert_eq!(namespace.wrap(&bare.into()), wrapped);
            assert_eq!(namespace.wrap(&wrapped.into()), wrapped);
            assert_eq!(namespace.unwrap(wrapped), bare);
            assert_eq!(namespace.unwrap(bare), bare);
        }
    }

    #[test]
    fn without_a_namespace_names_stay_as_they_are() {
        for namespace in [Namespace::default(), Namespace::new(" ")] {
            assert_eq!(namespace.wrap(&"a%b".into()), "a%b");
            assert_eq!(namespace.unwrap("a%b"), "a%b");
        }
    }
}
