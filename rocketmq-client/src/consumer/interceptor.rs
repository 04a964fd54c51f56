//! [`ConsumeInterceptor`]: code of the user's that runs around the handler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rocketmq_protocol::ByteString;

use super::handler::{self, Ack, Batch, HandlerError, MessageListener};
use super::listener::Listener;
use super::orderly::{self, OrderlyAck, OrderlyContext, OrderlyListener};
use super::push::PushConsumerBuilder;
use crate::producer::now_ms;
use crate::trace::{Trace, Tracer};
use crate::{Client, Error, ReceivedMessage};

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
    /// Whether all of them are done (those that an ordered handler holds, too), or some shall come again; or how the handler
    /// failed.
    pub outcome: Result<bool, String>,
    /// How long the handler took.
    pub took: Duration,
}

/// What a consumer is set up with to run around its handler.
#[derive(Default)]
pub(super) struct Hooks {
    interceptors: Vec<Box<dyn ConsumeInterceptor>>,
    trace: Option<Trace>,
}

impl Hooks {
    /// The listener with everything around it, and what is to be closed behind it.
    pub(super) async fn around(
        self,
        listener: Listener,
        client: &Client,
        group: &str,
    ) -> Result<(Listener, Option<Tracer>), Error> {
        let Self { mut interceptors, trace } = self;
        let tracer = match trace {
            Some(trace) => Some(trace.start(client, group, "CONSUME").await?),
            None => None,
        };
        if let Some(tracer) = &tracer {
            interceptors.push(Box::new(tracer.clone()));
        }
        if interceptors.is_empty() {
            return Ok((listener, None));
        }
        let interceptors = Interceptors { interceptors, group: group.into(), client: client.clone() };
        let around = match listener {
            Listener::Concurrent(listener) => {
                Listener::Concurrent(Arc::new(Intercepted { listener, interceptors }))
            }
            Listener::Ordered(listener) => {
                Listener::Ordered(Arc::new(Intercepted { listener, interceptors }))
            }
        };
        Ok((around, tracer))
    }
}

impl PushConsumerBuilder {
    /// What runs around the handler, after those given before.
    pub fn interceptor(mut self, interceptor: impl ConsumeInterceptor) -> Self {
        self.setup.hooks.interceptors.push(Box::new(interceptor));
        self
    }

    /// Tells a topic what was consumed, by whom and how fast. Default off.
    pub fn trace(mut self, trace: Trace) -> Self {
        self.setup.hooks.trace = Some(trace);
        self
    }
}

/// The interceptors of a consumer, and what they are told.
struct Interceptors {
    interceptors: Vec<Box<dyn ConsumeInterceptor>>,
    group: ByteString,
    client: Client,
}

impl Interceptors {
    /// Runs `handling` between the two halves of each interceptor. `is_done` says whether an outcome leaves nothing to come
    /// again.
    async fn around<T>(
        &self,
        messages: &[ReceivedMessage],
        handling: impl Future<Output = Result<T, HandlerError>>,
        is_done: impl Fn(&T) -> bool,
    ) -> Result<T, HandlerError> {
        let id: ByteString = self.client.core().unique_keys.next(now_ms()).into();
        let event = ConsumeEvent { group: &self.group, id: &id, messages };
        for interceptor in &self.interceptors {
            interceptor.before_consume(&event).await;
        }
        let began = Instant::now();
        let handled = handling.await;
        let outcome = handled.as_ref().map(is_done).map_err(ToString::to_string);
        let result = ConsumeResult { outcome, took: began.elapsed() };
        for interceptor in &self.interceptors {
            interceptor.after_consume(&event, &result).await;
        }
        handled
    }
}

/// A listener with interceptors around it.
struct Intercepted<L: ?Sized> {
    listener: Arc<L>,
    interceptors: Interceptors,
}

#[async_trait]
impl MessageListener for Intercepted<dyn MessageListener> {
    async fn consume(&self, messages: Batch) -> Result<Ack, HandlerError> {
        let is_done = |ack: &Ack| match ack {
            Ack::All => true,
            Ack::First(done) => *done >= messages.len(),
            Ack::Retry | Ack::RetryAfter(_) | Ack::DeadLetter => false,
        };
        let handling = handler::consume(&*self.listener, messages.clone());
        self.interceptors.around(&messages, handling, is_done).await
    }
}

#[async_trait]
impl OrderlyListener for Intercepted<dyn OrderlyListener> {
    async fn consume(&self, messages: Batch, context: OrderlyContext) -> Result<OrderlyAck, HandlerError> {
        let is_done = |ack: &OrderlyAck| matches!(ack, OrderlyAck::Commit | OrderlyAck::Hold);
        let handling = orderly::consume(&*self.listener, messages.clone(), context);
        self.interceptors.around(&messages, handling, is_done).await
    }
}
