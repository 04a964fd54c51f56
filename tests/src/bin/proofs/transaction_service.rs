//! A service that sends in transactions until it is told to finish, and answers brokers until it is killed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rocketmq_client::{Message, Producer, ReceivedMessage, TransactionProducer};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::Failure;
use crate::arguments::TransactionService;
use crate::broker_process::wait_for_parent;
use crate::outcomes::{Decision, Outcomes};

const GROUP: &str = "services";
const TASKS: u64 = 16;
/// Before the next message when a broker did not take one.
const PAUSE: Duration = Duration::from_millis(20);

struct Service {
    producer: TransactionProducer,
    topic: String,
    outcomes: Outcomes,
    /// Of each task, from message to message.
    interval: Duration,
    next: AtomicU64,
    finish: AtomicBool,
}

/// A line on standard input tells it to finish, the end of standard input to end.
pub(crate) async fn run(place: TransactionService) -> Result<(), Failure> {
    let outcomes = Outcomes::in_folder(&place.outcomes);
    let checker = {
        let outcomes = outcomes.clone();
        move |half: ReceivedMessage| {
            let decided = outcomes.decide(&half.message_id(), Decision::Abandoned);
            std::future::ready(decided.map(Decision::answered).map_err(Into::into))
        }
    };
    // One attempt: a second one would store a second half message of the same id, and rightly make it visible twice.
    let producer = Producer::builder(GROUP)
        .name_servers([place.name_server])
        .topics([&*place.topic])
        .max_attempts(1)
        .start_transactional(checker)
        .await?;
    let service = Arc::new(Service {
        producer,
        topic: place.topic,
        outcomes,
        interval: Duration::try_from_secs_f64(TASKS as f64 / place.rate)?,
        next: AtomicU64::new(0),
        finish: AtomicBool::new(false),
    });
    let mut sending = JoinSet::new();
    for _ in 0..TASKS {
        sending.spawn(Arc::clone(&service).send());
    }
    BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
    service.finish.store(true, Ordering::Relaxed);
    while let Some(ended) = sending.join_next().await {
        ended??;
    }
    wait_for_parent().await;
    Ok(())
}

impl Service {
    async fn send(self: Arc<Self>) -> Result<(), Failure> {
        let mut ticks = tokio::time::interval(self.interval.max(Duration::from_nanos(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.finish.load(Ordering::Relaxed) {
            ticks.tick().await;
            let wanted = Decision::in_turn(self.next.fetch_add(1, Ordering::Relaxed));
            let message = Message::new(self.topic.clone(), format!("{wanted:?}"));
            let sent = self
                .producer
                .send_in_transaction(message, async |half| {
                    let decided = self.outcomes.decide(&half.message_id, wanted)?;
                    Ok::<_, io::Error>(decided.told())
                })
                .await;
            if sent.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}
