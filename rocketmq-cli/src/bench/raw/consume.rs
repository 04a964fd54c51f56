//! Pulls queues from their beginning, one pull at a time for each, and takes the messages apart as far as to count them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rocketmq_protocol::message::StoredMessageRef;
use rocketmq_protocol::requests::{PullFlag, PullMessage};
use rocketmq_protocol::{Opaque, QueueId, QueueOffset};

use super::line::{Line, encode, failed, read};
use super::{Access, by_broker, places};
use crate::Failure;

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a broker may hold a pull.
const HOLD: Duration = Duration::from_secs(1);
/// How often to look whether it is over while nothing comes.
const LOOK: Duration = Duration::from_millis(50);

/// Messages that came with one answer.
pub(in crate::bench) struct Arrival {
    pub(in crate::bench) messages: u64,
    /// Of their bodies.
    pub(in crate::bench) bytes: u64,
    /// When the first of them was made, since 1970 by its maker's clock.
    pub(in crate::bench) born: Duration,
}

/// What is pulled.
pub(in crate::bench) struct Plan {
    pub(in crate::bench) topic: String,
    pub(in crate::bench) group: String,
    /// Messages asked for with one pull.
    pub(in crate::bench) batch: u16,
}

/// Pulls until it is `over`, and hands on what came. Blocks.
pub(in crate::bench) fn pull(
    name_servers: &[Arc<str>],
    plan: &Plan,
    over: &AtomicBool,
    take: impl Fn(Result<Arrival, String>) + Sync,
) -> Result<(), Failure> {
    let places = places(name_servers, &plan.topic, Access::Read, PATIENCE)?;
    let mut shares: BTreeMap<&str, Vec<PullMessage>> = BTreeMap::new(); // by broker
    for place in &places {
        shares.entry(&place.addr).or_default().push(first_pull(plan, place.queue_id));
    }
    by_broker(shares, PATIENCE, |line, pulls| {
        let ended = pull_share(line, pulls, over, &take);
        over.store(true, Ordering::Relaxed); // where one has failed, the others need not go on
        ended
    })
    .map(drop)
}

fn first_pull(plan: &Plan, queue_id: QueueId) -> PullMessage {
    PullMessage {
        consumer_group: (&plan.group).into(),
        topic: (&plan.topic).into(),
        queue_id,
        queue_offset: QueueOffset::ZERO,
        max_messages: plan.batch.into(),
        sys_flag: PullFlag::SUSPEND.with(PullFlag::SUBSCRIPTION).get(),
        commit_offset: QueueOffset::ZERO,
        suspend_timeout_ms: HOLD.as_millis() as i64,
        subscription: Some("*".into()),
        subscription_version: 0,
        expression_type: Some("TAG".into()),
        max_bytes: None,
    }
}

/// Over one connection; a pull's number is its queue's place among `pulls`.
fn pull_share(
    mut line: Line,
    mut pulls: Vec<PullMessage>,
    over: &AtomicBool,
    take: &impl Fn(Result<Arrival, String>),
) -> Result<(), Failure> {
    line.look_every(LOOK)?;
    let mut out = Vec::new();
    for (number, pull) in pulls.iter().enumerate() {
        encode(pull, Opaque::new(number as i32), &mut out)?;
    }
    let mut asked = Instant::now();
    while !over.load(Ordering::Relaxed) {
        if !out.is_empty() {
            line.write(&out)?;
            out.clear();
            asked = Instant::now();
        }
        if !line.wait()? {
            if asked.elapsed() > HOLD + PATIENCE {
                return Err(failed("pull")(io::ErrorKind::TimedOut.into()));
            }
            continue;
        }
        while let Some(answer) = line.answer()? {
            let Some(pull) = pulls.get_mut(answer.opaque.get() as usize) else { continue };
            let reply = read::<PullMessage>(&answer).map_err(failed("pull"))?;
            pull.queue_offset = reply.next_begin_offset;
            if let Some(arrival) = arrival(&reply.messages.into_bytes()).transpose() {
                take(arrival);
            }
            encode(pull, answer.opaque, &mut out)?;
        }
    }
    Ok(())
}

/// What an answer brings; nothing in most of those that were held.
fn arrival(records: &Bytes) -> Result<Option<Arrival>, String> {
    let mut arrival: Option<Arrival> = None;
    let mut rest = &records[..];
    while !rest.is_empty() {
        let message = StoredMessageRef::parse(rest).map_err(|error| error.to_string())?;
        let born = || Duration::from_millis(message.born_timestamp().try_into().unwrap_or_default());
        let arrival = arrival.get_or_insert_with(|| Arrival { messages: 0, bytes: 0, born: born() });
        arrival.messages += 1;
        arrival.bytes += message.body().len() as u64;
        rest = rest.get(message.total_size()..).unwrap_or_default();
    }
    Ok(arrival)
}
