//! A push consumer that wants messages 0 to COUNT-1, whole and each exactly once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rocketmq_client::{Ack, Batch, ConsumeFrom, Filter, PushConsumer};
use tokio::sync::Notify;

use crate::Outcome;
use crate::sequence::verify;

struct Seen {
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    distinct: HashSet<u32>,
    received: u32,
    corrupt: u32,
    last: Instant,
}

pub(crate) struct Consume {
    name_server: String,
    topic: String,
    group: String,
    count: u32,
    timeout: Duration,
    idle: Duration,
}

impl Consume {
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let [name_server, topic, group, count, timeout_s, idle_ms @ ..] = arguments else { return None };
        let idle_ms = match idle_ms {
            [] => 1000,
            [idle_ms] => idle_ms.parse().ok()?,
            _ => return None,
        };
        let (timeout, idle) = (Duration::from_secs(timeout_s.parse().ok()?), Duration::from_millis(idle_ms));
        let [name_server, topic, group] = [name_server, topic, group].map(String::clone);
        Some(Self { name_server, topic, group, count: count.parse().ok()?, timeout, idle })
    }

    pub(crate) async fn run(self) -> Outcome<bool> {
        let start = Instant::now();
        let state = State { distinct: HashSet::new(), received: 0, corrupt: 0, last: start };
        let seen = Arc::new(Seen { state: Mutex::new(state), arrived: Notify::new() });
        let consumer = PushConsumer::builder(&self.group)
            .name_servers([&self.name_server])
            .subscribe(&self.topic, Filter::All)
            .from(ConsumeFrom::Earliest)
            .handler({
                let seen = Arc::clone(&seen);
                move |messages| {
                    seen.take(&messages);
                    std::future::ready(Ok(Ack::All))
                }
            })
            .start()
            .await?;
        println!("started");
        let exact = seen.wait(self.count, start, self.timeout, self.idle).await;
        consumer.shutdown(Duration::from_secs(10)).await?;
        Ok(exact)
    }
}

impl Seen {
    fn take(&self, messages: &Batch) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for message in messages {
            state.received += 1;
            match verify(message) {
                Ok(i) => {
                    if !state.distinct.insert(i) {
                        eprintln!("duplicate {i} {}", message.message_id());
                    }
                }
                Err(reason) => {
                    state.corrupt += 1;
                    eprintln!("corrupt {} {reason}", message.message_id());
                }
            }
        }
        state.last = Instant::now();
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits until all are here and nothing more has come for `idle`, or until `timeout`; reports.
    async fn wait(&self, count: u32, start: Instant, timeout: Duration, idle: Duration) -> bool {
        let ready = Instant::now();
        loop {
            let until = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let all = state.distinct.len() >= count as usize;
                if all { (ready + timeout).min(state.last.max(ready) + idle) } else { ready + timeout }
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            tokio::time::timeout(left, self.arrived.notified()).await.ok();
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { distinct, received, corrupt, last } = &*state;
        let duplicates = (*received - *corrupt) as usize - distinct.len();
        println!(
            "received {received} distinct {} duplicates {duplicates} corrupt {corrupt} ms {}",
            distinct.len(),
            last.duration_since(start).as_millis()
        );
        *received == count && distinct.len() == count as usize && distinct.iter().all(|i| *i < count)
    }
}
