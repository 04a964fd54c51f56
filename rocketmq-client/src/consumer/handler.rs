//! [`MessageListener`]: the user's code, and what it says about the messages it was given.

use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use crate::ReceivedMessage;

/// Messages of one queue, by rising offset, that are handled together. There is at least one. Cloning it is cheap and
/// copies no message.
#[derive(Clone, Debug)]
pub struct Batch(Arc<[ReceivedMessage]>);

impl Batch {
    pub(super) fn new(messages: impl Into<Arc<[ReceivedMessage]>>) -> Self {
        Self(messages.into())
    }
}

impl Deref for Batch {
    type Target = [ReceivedMessage];

    fn deref(&self) -> &[ReceivedMessage] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a ReceivedMessage;
    type IntoIter = std::slice::Iter<'a, ReceivedMessage>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ack {
    /// All of it is done.
    All,
    /// The first so many messages are done, the others shall come again.
    First(usize),
    /// All of it shall come again, after a delay that grows with every failure; after too many, it goes to the dead
    /// letters.
    Retry,
    /// As [`Ack::Retry`], after the delay of this level of the broker (by default 1 is a second, 5 a minute, 18 two
    /// hours). 0 is the delay that grows.
    RetryAfter(u8),
    /// All of it goes to the dead letters (topic `%DLQ%` and the group) now.
    DeadLetter,
}

/// Why a batch could not be handled: any error. It is logged, and the batch comes again as with [`Ack::Retry`].
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// Handles messages. Closures go to [`handler`](crate::PushConsumerBuilder::handler) directly.
///
/// Every message comes at least once: after a crash, or when a queue moves to another member of the group, some come
/// again.
#[async_trait]
pub trait MessageListener: Send + Sync + 'static {
    /// Handles a batch. An error or a panic is as good as [`Ack::Retry`].
    ///
    /// # Cancel safety
    /// It is dropped half-way when the consumer is dropped or its shutdown runs out of time; the batch then comes again.
    async fn consume(&self, messages: Batch) -> Result<Ack, HandlerError>;
}

/// A closure as a listener.
pub(super) struct HandlerFn<F>(pub(super) F);

#[async_trait]
impl<F, Fut> MessageListener for HandlerFn<F>
where
    F: Fn(Batch) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Ack, HandlerError>> + Send,
{
    async fn consume(&self, messages: Batch) -> Result<Ack, HandlerError> {
        (self.0)(messages).await
    }
}

/// The listener's verdict on `messages`; a panic becomes an error.
pub(super) async fn consume(listener: &dyn MessageListener, messages: Batch) -> Result<Ack, HandlerError> {
    caught(listener.consume(messages)).await
}

/// What a handler says; a panic becomes an error.
pub(super) async fn caught<T>(
    mut handling: Pin<Box<dyn Future<Output = Result<T, HandlerError>> + Send + '_>>,
) -> Result<T, HandlerError> {
    std::future::poll_fn(|context| {
        // After a panic the future is not polled again; what else the handler left half-done is its own affair.
        match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(format!("the handler panicked: {}", text_of(&*panic)).into())),
        }
    })
    .await
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_handler_is_an_error() {
        async fn fail(_: Batch) -> Result<Ack, HandlerError> {
            tokio::task::yield_now().await;
            panic!("out of {}", "paper")
        }
        let error = consume(&HandlerFn(fail), Batch::new([])).await.unwrap_err();
        assert_eq!(error.to_string(), "the handler panicked: out of paper");
        let at_once = |_: Batch| -> std::future::Ready<Result<Ack, HandlerError>> { panic!("at once") };
        let error = consume(&HandlerFn(at_once), Batch::new([])).await.unwrap_err();
        assert_eq!(error.to_string(), "the handler panicked: at once");
    }

    #[tokio::test]
    async fn a_closure_is_a_listener() {
        let listener = HandlerFn(|messages: Batch| async move { Ok(Ack::First(messages.len())) });
        assert_eq!(consume(&listener, Batch::new([])).await.unwrap(), Ack::First(0));
    }
}
