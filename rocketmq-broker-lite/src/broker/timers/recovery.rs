//! What the timer files say at the start, however they were left, and by whichever broker.
//!
//! Units of the timer log whose message is in the timer topic count; the seconds of the wheel are made to
//! agree with them, and the topic is read on from the last of them. Java: `TimerMessageStore.java`, `load`
//! and `recover`.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::sync::Arc;

use rocketmq_protocol::message::StoredMessageRef;
use rocketmq_protocol::{LogPosition, QueueId, QueueOffset};
use tracing::warn;

use super::super::deferral::TIMER_TOPIC;
use super::checkpoint::TimerCheckFile;
use super::log::{MAGIC_DELETE, TimerLog};
use super::wheel::TimerWheel;
use super::{State, TimerError, Timers};

impl Timers {
    pub(super) fn open(&self) -> Result<State, TimerError> {
        let config = self.folder.join("config");
        let (check, found) = TimerCheckFile::open(&config.join("timercheck"))?;
        let mut checkpoint = found.unwrap_or_default();
        let wheel_path = self.folder.join("timerwheel");
        let had_wheel = wheel_path.try_exists()?;
        let mut read = checkpoint.read_time_ms.div_euclid(1000);
        let mut wheel = TimerWheel::open(&wheel_path, read)?;
        let mut log = TimerLog::open(&self.folder.join("timerlog"), self.log_file_size)?;
        if !had_wheel || found.is_none() {
            // They are new. Otherwise a busy disk would only hold up what is due.
            for folder in [&config, &self.folder] {
                File::open(folder)?.sync_all()?;
            }
        }
        let mut next = QueueOffset::new(checkpoint.queue_offset);
        let mut logged = None;
        let from = if had_wheel { checkpoint.log_position } else { 0 };
        log.recover(from, |at, unit| {
            let record = self.store.message_at(unit.position);
            let record = record.as_deref().and_then(|record| StoredMessageRef::parse(record).ok());
            let Some(record) = record.filter(|record| record.topic() == TIMER_TOPIC) else {
                // Its record went with the file that it was in; one that was never written ends the log.
                return Ok(unit.position < self.store.min_position());
            };
            logged = logged.max(Some(record.queue_offset().plus(1)));
            let second = unit.second();
            // What came into a second that was being delivered may be missing in the checkpoint.
            let unnoted = at >= checkpoint.log_position;
            if (second >= read || unnoted) && wheel.get(second).is_none_or(|slot| slot.last < at) {
                wheel.add(second, at, unit.magic & MAGIC_DELETE != 0)?;
                read = read.min(second);
            }
            Ok(true)
        })?;
        if log.end() < checkpoint.log_position {
            warn!(end = log.end(), "units of the timer log are lost, their messages are taken in again");
            next = logged.unwrap_or(QueueOffset::ZERO);
        } else {
            next = next.max(logged.unwrap_or(next));
        }
        restore_beyond(&mut wheel, &log)?;
        let (min, max) = (
            self.store.min_offset(TIMER_TOPIC, QueueId::ZERO),
            self.store.max_offset(TIMER_TOPIC, QueueId::ZERO),
        );
        next = next.max(min).min(max);
        // Nothing of this counts as on disk before the next save.
        checkpoint.log_position = checkpoint.log_position.min(log.end());
        checkpoint.queue_offset = checkpoint.queue_offset.min(next.get());
        Ok(State {
            wheel,
            log,
            check: Arc::new(check),
            checkpoint,
            delivered: LogPosition::ZERO,
            next,
            read,
            due: BTreeMap::new(),
            open: BTreeMap::new(),
            taken_back: HashSet::new(),
            sequence: 0,
            doubtful: true,
        })
    }
}

/// Makes seconds anew whose last units are not in the log.
fn restore_beyond(wheel: &mut TimerWheel, log: &TimerLog) -> Result<(), TimerError> {
    let lost: HashSet<i64> = wheel.forget_beyond(log.end()).into_iter().collect();
    if lost.is_empty() {
        return Ok(());
    }
    let mut units = Vec::new();
    log.for_each(|at, unit| {
        if lost.contains(&unit.second()) {
            units.push((unit.second(), at, unit.magic & MAGIC_DELETE != 0));
        }
    })?;
    for (second, at, takes_back) in units {
        wheel.add(second, at, takes_back)?;
    }
    Ok(())
}
