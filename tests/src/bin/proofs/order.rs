//! Messages of a key are handled in the order in which they were sent, by an ordered group of two.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rocketmq_client::{
    Batch, Client, ConsumeFrom, Filter, Message, OrderlyAck, Perm, Producer, PushConsumer, ReceivedMessage,
    SendOptions, TopicConfig,
};
use rocketmq_namesrv_lite::NameServer;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::arguments::Order;
use crate::broker_process::{BrokerProcess, until_it_works};
use crate::{Failure, promise};

const TOPIC: &str = "orders";
/// Of the one broker.
const QUEUES_IN_ALL: usize = QUEUES as usize;
const QUEUES: i32 = 8;
/// Without a new message for so long, no more come.
const IDLE: Duration = Duration::from_secs(20);

/// What was handled, of all members.
#[derive(Default)]
struct Handled {
    seen: Mutex<Seen>,
    progress: Notify,
}

#[derive(Default)]
struct Seen {
    /// The next number of each key.
    next: HashMap<String, u64>,
    messages: usize,
    again: usize,
    out_of_order: usize,
    first_wrong: Option<String>,
    by_member: [usize; 2],
}

impl Seen {
    fn take(&mut self, member: usize, key: &str, number: u64) {
        let next = self.next.entry(key.to_owned()).or_default();
        if number == *next {
            *next += 1;
            self.messages += 1;
            if let Some(count) = self.by_member.get_mut(member) {
                *count += 1;
            }
        } else if number < *next {
            self.again += 1;
        } else {
            self.first_wrong.get_or_insert_with(|| format!("key {key}: {number} came when {next} was next"));
            self.out_of_order += 1;
            *next = number + 1;
        }
    }
}

impl Handled {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, member: usize, batch: &Batch) -> Result<OrderlyAck, rocketmq_client::HandlerError> {
        for message in batch {
            let (key, number) = key_and_number(message).ok_or("not one of ours")?;
            self.seen().take(member, key, number);
        }
        self.progress.notify_one();
        Ok(OrderlyAck::Commit)
    }

    async fn all(&self, messages: usize) {
        while self.seen().messages < messages {
            if tokio::time::timeout(IDLE, self.progress.notified()).await.is_err() {
                return; // the verdict tells how many are missing
            }
        }
    }
}

fn key_and_number(message: &ReceivedMessage) -> Option<(&str, u64)> {
    let body = message.body().ok()?;
    Some((message.keys().next()?, std::str::from_utf8(body).ok()?.parse().ok()?))
}

pub(crate) async fn prove(plan: Order) -> Result<bool, Failure> {
    let Order { messages, tasks, keys } = plan;
    println!(
        "{messages} messages of {keys} keys, sent by {tasks} tasks to {QUEUES} queues, handled by 2 members"
    );
    let name_server = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await?;
    let names = name_server.local_addr().to_string();
    let _broker = BrokerProcess::start("broker", &names, &[]).await?;
    let client = Client::builder().name_servers([&names]).start().await?;
    let topic = TopicConfig::new(TOPIC, QUEUES, Perm::READ_WRITE);
    until_it_works(|| client.create_topic(&topic)).await?;
    let handled = Arc::new(Handled::default());
    let members = [member(&names, 0, &handled).await?, member(&names, 1, &handled).await?];

    let of_topic =
        |member: &PushConsumer| member.assigned_queues().iter().filter(|queue| queue.topic == TOPIC).count();
    let shares = || members.iter().map(of_topic);
    while shares().any(|queues| queues == 0) || shares().sum::<usize>() > QUEUES_IN_ALL {
        tokio::time::sleep(Duration::from_millis(10)).await; // the first one gives the second its share
    }

    let producer = Producer::builder("producers").client(&client).start().await?;
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for task in 0..tasks {
        let producer = producer.clone();
        // A key belongs to one task: only then it has an order.
        let numbers = (0..messages).skip(task).step_by(tasks);
        sending.spawn(async move {
            let mut next: HashMap<String, u64> = HashMap::new();
            for (turn, _) in numbers.enumerate() {
                let key = format!("key-{}", task + tasks * (turn % keys.div_ceil(tasks)));
                let number = next.entry(key.clone()).or_default();
                let message = Message::builder(TOPIC).body(number.to_string()).key(&key).build()?;
                producer.send_with(message, SendOptions::new().sharding_key(&key)).await?;
                *number += 1;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let sent = began.elapsed();
    handled.all(messages).await;
    let done = began.elapsed();
    for member in members {
        member.shutdown(Duration::from_secs(5)).await?;
    }
    client.shutdown().await;

    let seen = handled.seen();
    println!(
        "sent in {:.1} s, handled after {:.1} s: {} and {} by the members, {} again",
        sent.as_secs_f64(),
        done.as_secs_f64(),
        seen.by_member[0],
        seen.by_member[1],
        seen.again
    );
    let missing = messages.saturating_sub(seen.messages + seen.out_of_order);
    let all = promise(&format!("every message is handled ({missing} are not)"), missing == 0);
    let wrong = seen.out_of_order;
    let ordered = promise(&format!("messages of a key keep their order ({wrong} do not)"), wrong == 0);
    if let Some(wrong) = &seen.first_wrong {
        println!("        {wrong}");
    }
    let shared = promise("both members had their share", seen.by_member.iter().all(|count| *count > 0));
    Ok(all && ordered && shared)
}

/// With a client of its own, as in a process of its own.
async fn member(names: &str, number: usize, handled: &Arc<Handled>) -> Result<PushConsumer, Failure> {
    let client =
        Client::builder().name_servers([names]).client_id(format!("member-{number}")).start().await?;
    let handled = Arc::clone(handled);
    let builder = PushConsumer::builder("readers").client(&client).subscribe(TOPIC, Filter::All);
    let ordered = builder
        .from(ConsumeFrom::Earliest)
        .ordered(move |batch, _| std::future::ready(handled.handle(number, &batch)));
    Ok(ordered.start().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_skipped_is_out_of_order_and_one_that_comes_again_is_not() {
        let mut seen = Seen::default();
        for (key, number) in [("a", 0), ("b", 0), ("a", 1), ("a", 0), ("a", 1), ("b", 2), ("b", 1)] {
            seen.take(0, key, number);
        }
        assert_eq!((seen.messages, seen.again, seen.out_of_order), (3, 3, 1));
        assert_eq!(seen.first_wrong.unwrap(), "key b: 2 came when 1 was next");
    }
}
