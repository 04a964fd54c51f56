//! Sends frames made beforehand. Each send in flight has a frame of its own, of which only the unique keys and the time change
//! from one time to the next.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocketmq_protocol::message::batch::BatchEntry;
use rocketmq_protocol::message::{Properties, UniqueKeyGenerator};
use rocketmq_protocol::name::AUTO_CREATE_TOPIC;
use rocketmq_protocol::requests::{SendBatchMessage, SendMessage};
use rocketmq_protocol::{ByteString, Opaque, ResponseCode};

use super::line::{Line, encode, failed, refusal};
use super::{Access, Place, by_broker, places};
use crate::Failure;
use crate::bench::load::filler;
use crate::bench::progress::Counts;
use crate::bench::quota::Quota;
use crate::bench::tally::Tally;

/// The end of a unique key, which counts.
const COUNTED: usize = 8;

/// What is sent, and how many at a time.
pub(in crate::bench) struct Plan {
    pub(in crate::bench) topic: String,
    pub(in crate::bench) size: u64,
    pub(in crate::bench) batch: u64,
    pub(in crate::bench) concurrency: u32,
    pub(in crate::bench) patience: Duration,
}

/// Sends until the quota is used up. The topic must exist. Blocks.
pub(in crate::bench) fn send(
    name_servers: &[Arc<str>],
    plan: &Plan,
    quota: &Quota,
    counts: &Counts,
) -> Result<Tally, Failure> {
    let places = places(name_servers, &plan.topic, Access::Write, plan.patience)?;
    let mut shares: BTreeMap<&str, Vec<Turn>> = BTreeMap::new(); // by broker
    for (_, place) in (0..plan.concurrency).zip(places.iter().cycle()) {
        let share = shares.entry(&place.addr).or_default();
        let opaque = Opaque::new(share.len() as i32);
        share.push(Turn::new(place, plan, opaque)?);
    }
    let tallies = by_broker(shares, plan.patience, |line, turns| {
        Share { line, turns, out: Vec::new(), plan, quota, counts, tally: Tally::new() }.send()
    })?;
    let mut tally = Tally::new();
    tallies.into_iter().for_each(|one| tally.add(one));
    Ok(tally)
}

/// What goes to one broker, over one connection.
struct Share<'a> {
    line: Line,
    turns: Vec<Turn>,
    out: Vec<u8>,
    plan: &'a Plan,
    quota: &'a Quota,
    counts: &'a Counts,
    tally: Tally,
}

impl Share<'_> {
    fn send(mut self) -> Result<Tally, Failure> {
        let (batch, size) = (self.plan.batch, self.plan.size);
        let mut flying = 0;
        for number in 0..self.turns.len() {
            flying += usize::from(self.depart(number, Instant::now(), now_ms()));
        }
        while flying > 0 {
            self.line.write(&self.out)?;
            self.out.clear();
            if !self.line.wait()? {
                let lost = flying as u64 * batch;
                self.counts.failed(lost);
                self.tally.failed(lost, || "no answer came in time".to_owned());
                break;
            }
            let (now, now_ms) = (Instant::now(), now_ms());
            while let Some(answer) = self.line.answer()? {
                let number = answer.opaque.get() as usize;
                let Some(turn) = self.turns.get(number) else { continue };
                if answer.response_code() == ResponseCode::SUCCESS {
                    self.counts.went_well(batch);
                    self.tally.went_well(batch, batch * size, now - turn.departed);
                } else {
                    self.counts.failed(batch);
                    self.tally.failed(batch, || refusal(&answer));
                }
                flying -= 1;
                flying += usize::from(self.depart(number, now, now_ms));
            }
        }
        Ok(self.tally)
    }

    /// Sends a frame once more, if there is something left to be sent.
    fn depart(&mut self, number: usize, now: Instant, now_ms: i64) -> bool {
        let Some(turn) = self.turns.get_mut(number) else { return false };
        if self.quota.take(self.plan.batch).is_none() {
            return false;
        }
        turn.renew(now, now_ms);
        self.out.extend_from_slice(&turn.frame);
        true
    }
}

/// A frame that is sent over and over, the next time when it has been answered.
struct Turn {
    frame: Vec<u8>,
    /// Where in the frame the keys' last digits are.
    keys: Vec<usize>,
    /// Where the time is, in decimal digits.
    born: usize,
    born_ms: i64,
    departed: Instant,
}

impl Turn {
    fn new(place: &Place, plan: &Plan, opaque: Opaque) -> Result<Self, Failure> {
        let misfit = |error| failed("make a message")(io::Error::other(error));
        let born_ms = now_ms();
        // Each key from a generator of its own, so that none comes upon another's by counting.
        let keyed = || {
            let (address, instance) = (Ipv4Addr::LOCALHOST.into(), rand::random());
            let generator = UniqueKeyGenerator::new(address, std::process::id(), instance);
            Properties::EMPTY.with_unique_key(&generator, born_ms).map_err(misfit)
        };
        let filler = filler(plan.size as usize);
        let (properties, key) = keyed()?;
        let mut keys = vec![key];
        let mut body = Vec::new();
        if plan.batch > 1 {
            for _ in 0..plan.batch {
                let (properties, key) = keyed()?;
                BatchEntry { flag: 0, body: &filler, properties: properties.as_ref() }
                    .encode(&mut body)
                    .map_err(misfit)?;
                keys.push(key);
            }
        } else {
            body.extend_from_slice(&filler);
        }
        let request = SendMessage {
            producer_group: "rmq-bench-raw".into(),
            topic: (&plan.topic).into(),
            default_topic: AUTO_CREATE_TOPIC.into(),
            default_topic_queue_nums: 4,
            queue_id: place.queue_id,
            sys_flag: 0,
            born_timestamp: born_ms,
            flag: 0,
            properties: Some(properties.into()),
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: plan.batch > 1,
            broker_name: Some((&place.broker).into()),
            body: body.into(),
        };
        let mut frame = Vec::new();
        if plan.batch > 1 {
            encode(&SendBatchMessage(request), opaque, &mut frame)?;
        } else {
            encode(&request, opaque, &mut frame)?;
        }
        let place_of = |text: &str| frame.windows(text.len()).position(|window| window == text.as_bytes());
        let ends = |key: &ByteString| place_of(key).map(|at| at + key.len() - COUNTED);
        Ok(Self {
            keys: keys.iter().filter_map(ends).collect(),
            born: place_of(&born_ms.to_string()).unwrap_or_default(),
            born_ms,
            departed: Instant::now(),
            frame,
        })
    }

    /// Makes other messages of it.
    fn renew(&mut self, now: Instant, now_ms: i64) {
        self.departed = now;
        for at in &self.keys {
            if let Some(digits) = self.frame.get_mut(*at..at + COUNTED) {
                count_up(digits);
            }
        }
        if self.born_ms != now_ms {
            self.born_ms = now_ms;
            let digits = now_ms.to_string();
            if let Some(place) = self.frame.get_mut(self.born..self.born + digits.len()) {
                place.copy_from_slice(digits.as_bytes());
            }
        }
    }
}

/// The next number, in upper-case hexadecimal digits.
fn count_up(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = match *digit {
            b'9' => b'A',
            b'F' => b'0',
            other => other + 1,
        };
        if *digit != b'0' {
            break;
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::BytesMut;
    use rocketmq_protocol::message::batch::entries;
    use rocketmq_protocol::message::{PropertiesRef, property};
    use rocketmq_protocol::request::Payload;
    use rocketmq_protocol::{FrameDecoder, MAX_FRAME_BYTES, QueueId, RequestCode};

    use super::*;

    fn read(turn: &Turn) -> (RequestCode, SendMessage) {
        let mut bytes = BytesMut::from(&*turn.frame);
        let frame = FrameDecoder::new(MAX_FRAME_BYTES).decode(&mut bytes).unwrap().unwrap();
        assert_eq!((frame.opaque, bytes.len()), (Opaque::new(7), 0));
        (frame.request_code(), SendMessage::read(&frame).unwrap())
    }

    #[test]
    fn every_time_a_frame_is_sent_its_messages_are_others() {
        let place = Place { broker: "b".into(), addr: String::new(), queue_id: QueueId::new(5) };
        for (batch, code) in [(1, RequestCode::SEND_MESSAGE_V2), (3, RequestCode::SEND_BATCH_MESSAGE)] {
            let plan = Plan { topic: "t".into(), size: 40, batch, concurrency: 1, patience: Duration::ZERO };
            let mut turn = Turn::new(&place, &plan, Opaque::new(7)).unwrap();
            let mut keys = HashSet::new();
            for now_ms in [1_700_000_000_000, 1_700_000_000_000, 1_799_999_999_999] {
                turn.renew(Instant::now(), now_ms);
                let (read_code, request) = read(&turn);
                assert_eq!((read_code, request.born_timestamp), (code, now_ms));
                assert_eq!((&*request.topic, request.queue_id), ("t", QueueId::new(5)));
                let mut add = |properties: PropertiesRef<'_>| {
                    assert!(keys.insert(properties.get(property::UNIQ_KEY).unwrap().to_owned()));
                };
                add(request.properties.as_deref().unwrap().into());
                if batch == 1 {
                    assert_eq!(request.body, filler(40));
                    continue;
                }
                let entries: Vec<_> = entries(&request.body).collect::<Result<_, _>>().unwrap();
                assert_eq!(entries.len(), 3);
                for entry in entries {
                    assert_eq!(entry.body, filler(40));
                    add(entry.properties);
                }
            }
        }
    }

    #[test]
    fn digits_count_as_numbers_do() {
        let mut digits = *b"00009FFD";
        for number in 0x9ffe_u32..0xa010 {
            count_up(&mut digits);
            assert_eq!(digits, *format!("{number:08X}").as_bytes());
        }
        let mut last = *b"FFFFFFFF";
        count_up(&mut last);
        assert_eq!(last, *b"00000000");
    }
}
