//! Messages that wait for levels and times while the broker is killed: none is early, none lost, none late.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rocketmq_client::{
    Ack, Batch, Client, ConsumeFrom, Delay, Filter, Message, Perm, Producer, PushConsumer, TopicConfig,
};
use rocketmq_namesrv_lite::NameServer;
use tokio::sync::Notify;

use crate::arguments::Delays;
use crate::broker_process::{BrokerProcess, until_it_works};
use crate::times::Times;
use crate::{Failure, promise};

const TOPIC: &str = "reminders";
/// Java's first ones.
const LEVELS_MS: [u64; 3] = [1000, 5000, 10_000];
/// Times that are no levels, in ms.
const TIMES_MS: std::ops::Range<u64> = 500..12_000;
/// How late a message may be.
const LATE: Duration = Duration::from_millis(100);
/// A kill concerns what is due while the broker is down, and until clients have found it again.
const AFTERMATH: Duration = Duration::from_secs(5);
/// How late the last message may be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Milliseconds since 1970, of the system clock.
type Ms = u64;

/// What is known of a message.
struct Waiting {
    kind: &'static str,
    /// At the earliest: counted from before it was sent.
    due: Ms,
    /// At the latest: counted from when it was acknowledged. The broker counts from when it stored the message, in between.
    due_at_latest: Ms,
    acknowledged: bool,
    arrived: Option<Ms>,
    /// When the broker delivered it.
    delivered: Ms,
    /// Queue and offset of each time the broker delivered it.
    copies: HashSet<(i32, i64)>,
}

#[derive(Default)]
struct Shared {
    messages: Mutex<HashMap<u32, Waiting>>,
    arrived: Notify,
}

impl Shared {
    fn messages(&self) -> MutexGuard<'_, HashMap<u32, Waiting>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, batch: &Batch) {
        let now = now_ms();
        let mut messages = self.messages();
        for message in batch {
            let number = message.keys().next().and_then(|key| key.parse().ok());
            let Some(waiting) = number.and_then(|number: u32| messages.get_mut(&number)) else { continue };
            if waiting.arrived.replace(waiting.arrived.unwrap_or(now)).is_none() {
                waiting.delivered = ms(message.store_time());
            }
            waiting.copies.insert((message.queue_id().get(), message.queue_offset().get()));
        }
        drop(messages);
        self.arrived.notify_one();
    }
}

pub(crate) async fn prove(plan: Delays) -> Result<bool, Failure> {
    println!("{} messages in {:?}, {} kills, seed {}", plan.messages, plan.time, plan.kills, plan.seed);
    let name_server = NameServer::builder().listen(([127, 0, 0, 1], 0)).start().await?;
    let names = name_server.local_addr().to_string();
    let mut broker = BrokerProcess::start("broker", &names, &[]).await?;
    let client = Client::builder().name_servers([&names]).start().await?;
    let topic = TopicConfig::new(TOPIC, 4, Perm::READ_WRITE);
    until_it_works(|| client.create_topic(&topic)).await?;
    let producer = Producer::builder("producers").client(&client).start().await?;
    let shared = Arc::new(Shared::default());
    let handler = {
        let shared = Arc::clone(&shared);
        move |batch| {
            shared.handle(&batch);
            std::future::ready(Ok(Ack::All))
        }
    };
    let consumer = PushConsumer::builder("readers")
        .client(&client)
        .subscribe(TOPIC, Filter::All)
        .from(ConsumeFrom::Earliest)
        .handler(handler)
        .start()
        .await?;
    let sending = tokio::spawn(send(producer, Arc::clone(&shared), plan.messages, plan.time, plan.seed));
    let outages = kill_now_and_then(&mut broker, &plan).await?;
    let failed = sending.await??;
    all_arrived(&shared).await;
    consumer.shutdown(Duration::from_secs(5)).await?;
    broker.kill().await?;
    client.shutdown().await;
    println!("{failed} sends failed");
    let messages = shared.messages();
    Ok(judge(&messages, &outages))
}

/// Kills the broker while messages are sent and while the last ones wait; tells when it was down.
async fn kill_now_and_then(broker: &mut BrokerProcess, plan: &Delays) -> Result<Vec<(Ms, Ms)>, Failure> {
    let longest = Duration::from_millis(TIMES_MS.end);
    let mut chance = StdRng::seed_from_u64(plan.seed);
    let between = (plan.time + longest / 2) / (plan.kills + 1);
    let mut outages = Vec::new();
    for _ in 0..plan.kills {
        tokio::time::sleep(between.mul_f64(chance.random_range(0.8..1.2))).await;
        let down = now_ms();
        broker.kill().await?;
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..1000))).await;
        broker.start_again().await?;
        outages.push((down, now_ms()));
    }
    Ok(outages)
}

/// Returns how many could not be sent.
async fn send(
    producer: Producer,
    shared: Arc<Shared>,
    messages: u32,
    time: Duration,
    seed: u64,
) -> Result<u32, Failure> {
    let mut chance = StdRng::seed_from_u64(seed ^ 1);
    let mut ticks = tokio::time::interval(time / messages.max(1));
    let mut failed = 0;
    for number in 0..messages {
        ticks.tick().await;
        let after = chance.random_range(TIMES_MS);
        let level = chance.random_range(0..LEVELS_MS.len());
        let now = now_ms();
        let (kind, delay, due) = match number % 3 {
            0 => {
                let takes = LEVELS_MS.get(level).copied().unwrap_or_default();
                ("level", Delay::Level(u8::try_from(level + 1)?), now + takes)
            }
            1 => ("after", Delay::After(Duration::from_millis(after)), now + after),
            _ => ("at", Delay::At(UNIX_EPOCH + Duration::from_millis(now + after)), now + after),
        };
        let message =
            Message::builder(TOPIC).body("wake up").key(&number.to_string()).delay(delay).build()?;
        let waiting = Waiting {
            kind,
            due,
            due_at_latest: due,
            acknowledged: false,
            arrived: None,
            delivered: 0,
            copies: HashSet::new(),
        };
        shared.messages().insert(number, waiting);
        match producer.send(message).await {
            Ok(_) => {
                let moment = now_ms().saturating_sub(now);
                if let Some(waiting) = shared.messages().get_mut(&number) {
                    waiting.acknowledged = true;
                    if kind != "at" {
                        waiting.due_at_latest += moment;
                    }
                }
            }
            Err(_) => failed += 1,
        }
    }
    Ok(failed)
}

async fn all_arrived(shared: &Shared) {
    let arriving = async {
        loop {
            let due = {
                let messages = shared.messages();
                let mut missing =
                    messages.values().filter(|waiting| waiting.acknowledged && waiting.arrived.is_none());
                if missing.next().is_none() {
                    return;
                }
                messages.values().map(|waiting| waiting.due).max().unwrap_or_default()
            };
            let left = Duration::from_millis(due.saturating_sub(now_ms())) + PATIENCE;
            if tokio::time::timeout(left, shared.arrived.notified()).await.is_err() {
                return;
            }
        }
    };
    let longest = Duration::from_millis(TIMES_MS.end) + PATIENCE;
    tokio::time::timeout(longest, arriving).await.ok(); // what is missing is told by the verdict
}

fn judge(messages: &HashMap<u32, Waiting>, outages: &[(Ms, Ms)]) -> bool {
    let aftermath = u64::try_from(AFTERMATH.as_millis()).unwrap_or(u64::MAX);
    let concerned =
        |due: Ms| outages.iter().find(|(down, up)| (down.saturating_sub(100)..up + aftermath).contains(&due));
    let mut lateness: [(&str, Times); 3] = ["level", "after", "at"].map(|kind| (kind, Times::default()));
    let (mut after_kill, mut handled_after_kill) = (Times::default(), Times::default());
    let (mut early, mut lost, mut copies) = (0, 0, 0);
    for waiting in messages.values() {
        copies += waiting.copies.len().saturating_sub(1);
        let Some(arrived) = waiting.arrived else {
            lost += u32::from(waiting.acknowledged);
            continue;
        };
        early += u32::from(arrived < waiting.due);
        if let Some((_, up)) = concerned(waiting.due) {
            let from = waiting.due_at_latest.max(*up);
            after_kill.add(Duration::from_millis(waiting.delivered.saturating_sub(from)));
            handled_after_kill.add(Duration::from_millis(arrived.saturating_sub(from)));
        } else if let Some((_, times)) = lateness.iter_mut().find(|(kind, _)| *kind == waiting.kind) {
            times.add(Duration::from_millis(arrived.saturating_sub(waiting.due_at_latest)));
        }
    }
    let mut in_time = true;
    for (kind, times) in &lateness {
        println!("late, {kind:6}{:6} messages{times}", times.len());
        in_time &= times.quantile(0.99) <= LATE;
    }
    let affected = after_kill.len();
    println!("near a kill, from when the broker was up: {affected} messages");
    println!("late, delivered by the broker  {after_kill}");
    println!("late, handled by the consumer  {handled_after_kill}");
    println!("{copies} were delivered again after a kill");
    in_time &= after_kill.quantile(0.99) <= LATE;
    let over: usize = lateness.iter().map(|(_, times)| times.over(LATE)).sum();
    let never_early = promise(&format!("no message is early ({early} are)"), early == 0);
    let none_lost = promise(&format!("every message that was stored arrives ({lost} did not)"), lost == 0);
    let in_time = promise(
        &format!(
            "99 of 100 are handled at most {LATE:?} after their time ({over} later), delivered near a kill"
        ),
        in_time,
    );
    never_early && none_lost && in_time
}

fn now_ms() -> Ms {
    ms(SystemTime::now())
}

fn ms(time: SystemTime) -> Ms {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
