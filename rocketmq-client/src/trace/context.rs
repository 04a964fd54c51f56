//! [`TraceContext`]: the trace that a message belongs to, for tracing across services.

use async_trait::async_trait;
use rocketmq_protocol::ByteString;

use crate::{Error, HandlerError, Message, ReceivedMessage, SendInterceptor};

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// The span that a message was sent in, as the header fields of [W3C Trace Context](https://www.w3.org/TR/trace-context/), which
/// travel as user properties of the same names: any language's consumer reads them. Each message of a batch has its own.
///
/// ```no_run
/// # async fn example(consumer: rocketmq_client::PullConsumer) -> Result<(), rocketmq_client::Error> {
/// use rocketmq_client::{Producer, TraceContext};
///
/// // Ask your tracer; this one is always within the same span.
/// let span = TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")?;
/// let producer = Producer::builder("orders").trace_context(move || Some(span.clone())).start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    parent: ByteString,
    state: Option<ByteString>,
}

impl TraceContext {
    /// The context whose `traceparent` this is: `version-trace-span-flags`, in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for anything else.
    pub fn new(parent: impl Into<ByteString>) -> Result<Self, Error> {
        let parent = parent.into();
        if is_parent(&parent) {
            return Ok(Self { parent, state: None });
        }
        let reason =
            format!("{parent:?} is not 00-<32 digits>-<16 digits>-<2 digits>, lower-case hexadecimal");
        Err(Error::InvalidArgument { name: PARENT, reason })
    }

    /// With what tracing systems add of their own, the `tracestate`.
    pub fn with_state(mut self, state: impl Into<ByteString>) -> Self {
        self.state = Some(state.into());
        self
    }

    /// What the sender of a message said; nothing where that is malformed, as the recommendation has it.
    pub fn of(message: &ReceivedMessage) -> Option<Self> {
        let context = Self::new(message.property(PARENT)?).ok()?;
        Some(Self { state: message.property(STATE).map(Into::into), ..context })
    }

    /// The `traceparent`.
    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

fn is_parent(text: &str) -> bool {
    let is_hex = |field: &str, len: usize| {
        field.len() == len && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |field: &str, len| is_hex(field, len) && field.bytes().any(|byte| byte != b'0');
    let fields: Vec<_> = text.split('-').collect();
    let [version, trace, span, flags, later @ ..] = &fields[..] else { return false };
    let is_version = is_hex(version, 2) && *version != "ff" && (*version != "00" || later.is_empty());
    is_version && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2)
}

/// Gives each message the context of its sender, unless it has one.
pub(crate) struct Propagation<F>(pub(crate) F);

#[async_trait]
impl<F> SendInterceptor for Propagation<F>
where
    F: Fn() -> Option<TraceContext> + Send + Sync + 'static,
{
    async fn before_send(&self, message: &mut Message) -> Result<(), HandlerError> {
        if message.property(PARENT).is_some() {
            return Ok(());
        }
        if let Some(context) = (self.0)() {
            message.set_property(PARENT, context.parent())?;
            if let Some(state) = context.state() {
                message.set_property(STATE, state)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rocketmq_protocol::message::Properties;

    use super::*;
    use crate::test_support::*;

    const PARENT_TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_no_traceparent_is_refused() {
        assert_eq!(TraceContext::new(PARENT_TEXT).unwrap().parent(), PARENT_TEXT);
        assert!(TraceContext::new(format!("cc{}-what-comes-later", &PARENT_TEXT[2..])).is_ok());
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(TraceContext::new(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_message_carries_the_context_of_its_send_unless_it_has_one() {
        let (name_server, broker) = one_broker().await;
        let context = TraceContext::new(PARENT_TEXT).unwrap().with_state("vendor=1");
        let producer =
            producer(&name_server).trace_context(move || Some(context.clone())).start().await.unwrap();
        producer.send(Message::new("orders", "without")).await.unwrap();
        let with = Message::builder("orders").body("with").property("traceparent", "the user's");
        producer.send(with.build().unwrap()).await.unwrap();
        let sent = broker.sent.lock().unwrap();
        let properties = |at: usize| Properties::new(sent[at].properties.clone().unwrap());
        assert_eq!(properties(0).get("traceparent"), Some(PARENT_TEXT));
        assert_eq!(properties(0).get("tracestate"), Some("vendor=1"));
        assert_eq!(properties(1).get("traceparent"), Some("the user's"));
        assert_eq!(properties(1).get("tracestate"), None);
    }
}
