//! [`send`]: sends messages when they are due, whatever became of those before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rocketmq_client::{Message, Producer};

use super::alarm::{Alarm, stay_awake_until};
use super::progress::Counts;
use super::quota::{Quota, Turn};
use super::tally::Tally;
use crate::Failure;

/// Sends what `make` makes of a number and the time at which it is due, until the quota is used up or the user ends it.
/// Times are from when a message was due to its acknowledgement; the other result is how long it all took. With `awake`, it
/// does not sleep until the next message is due.
pub(crate) async fn send(
    producer: Producer,
    quota: Quota,
    awake: bool,
    counts: Arc<Counts>,
    make: impl Fn(u64, Instant) -> Result<Message, Failure>,
) -> Result<(Tally, Duration), Failure> {
    let mut tally = Tally::new();
    let mut alarm = Alarm::new()?;
    let mut flying = FuturesUnordered::new();
    let mut count = |result: Result<(u64, Duration), rocketmq_client::Error>| match result {
        Ok((bytes, took)) => {
            counts.went_well(1);
            tally.went_well(1, bytes, took);
        }
        Err(error) => {
            counts.failed(1);
            tally.failed(1, || error.to_string());
        }
    };
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    while let Some(Turn { numbers, due }) = quota.take(1) {
        let due = due.unwrap_or_else(Instant::now);
        // Answers are taken while the next message is not due, and once more when it is.
        loop {
            tokio::select! {
                biased;
                Some(result) = flying.next() => count(result),
                () = stay_awake_until(due), if awake => break,
                rung = alarm.wait_until(due), if !awake => { rung?; break }
                _ = &mut stop, if !quota.is_over() => { quota.finish(); break }
            }
        }
        let (message, producer) = (make(numbers.start, due)?, &producer);
        flying.push(async move {
            let bytes = message.body().len() as u64;
            producer.send(message).await.map(|_| (bytes, due.elapsed()))
        });
    }
    while let Some(result) = flying.next().await {
        count(result);
    }
    let took = quota.began().elapsed();
    Ok((tally, took))
}
