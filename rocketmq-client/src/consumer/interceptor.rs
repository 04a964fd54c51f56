//! [`ConsumeInterceptor`]: code of the user's that runs around the handler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rocketmq_protocol::ByteString;

use super::handler::{Ack, Batch, HandlerError, MessageListener, consume};
use crate::producer::now_ms;
use crate::{Client, ReceivedMessage};

/// Runs around the handler of a consumer: to measure, to trace, to set up what the handler runs in.
///
/// Interceptors run in the order they were given in, within the task of the handler: what takes long delays it.
#[async_trait]
pub trait ConsumeInterceptor: Send + Sync + 'static {
    /// Before the handler gets the messages.
    async fn before_consume(&self, event: &ConsumeEvent<'_>) {
        let _ = event;
    }

    /// After the handler has returned, failed or panicked.
    async fn after_consume(&self, event: &ConsumeEvent<'_>, result: &ConsumeResult) {
        let _ = (event, result);
    }
}

/// Messages that are handled together.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConsumeEvent<'a> {
    /// The consumer's group.
    pub group: &'a str,
    /// Tells one call of the handler from every other.
    pub id: &'a str,
    /// The messages.
    pub messages: &'a [ReceivedMessage],
}

/// What came of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumeResult {
    /// Whether all of them are done, or some shall come again; or how the handler failed.
    pub outcome: Result<bool, String>,
    /// How long the handler took.
    pub took: Duration,
}

/// The interceptors of a consumer, and what they are told.
#[derive(Clone)]
pub(super) struct Interceptors {
    interceptors: Arc<[Box<dyn ConsumeInterceptor>]>,
    group: Arc<str>,
    client: Client,
}

impl Interceptors {
    pub(super) fn new(
        interceptors: Vec<Box<dyn ConsumeInterceptor>>,
        group: &str,
        client: Client,
    ) -> Option<Self> {
        let some = !interceptors.is_empty();
        some.then(|| Self { interceptors: interceptors.into(), group: group.into(), client })
    }

    /// Runs `handling` between the two halves of each interceptor. `is_done` says whether an outcome leaves nothing to come
    /// again.
    pub(super) async fn around<T>(
        &self,
        messages: &[ReceivedMessage],
        handling: impl Future<Output = Result<T, HandlerError>>,
        is_done: impl Fn(&T) -> bool,
    ) -> Result<T, HandlerError> {
        let id: ByteString = self.client.core().unique_keys.next(now_ms()).into();
        let event = ConsumeEvent { group: &self.group, id: &id, messages };
        for interceptor in self.interceptors.iter() {
            interceptor.before_consume(&event).await;
        }
        let began = Instant::now();
        let handled = handling.await;
        let outcome = handled.as_ref().map(is_done).map_err(ToString::to_string);
        let result = ConsumeResult { outcome, took: began.elapsed() };
        for interceptor in self.interceptors.iter() {
            interceptor.after_consume(&event, &result).await;
        }
        handled
    }
}

/// A listener with interceptors around it.
pub(super) struct Intercepted {
    pub(super) listener: Arc<dyn MessageListener>,
    pub(super) interceptors: Interceptors,
}

#[async_trait]
impl MessageListener for Intercepted {
    async fn consume(&self, messages: Batch) -> Result<Ack, HandlerError> {
        let is_done = |ack: &Ack| match ack {
            Ack::All => true,
            Ack::First(done) => *done >= messages.len(),
            Ack::Retry | Ack::RetryAfter(_) | Ack::DeadLetter => false,
        };
        let handling = consume(&*self.listener, messages.clone());
        self.interceptors.around(&messages, handling, is_done).await
    }
}
