//! [`Ledger`]: what the journal proves. Pure.
//!
//! A message is known by its group, its key and its number under that key, from 0 without a gap. It came twice when it was
//! handled twice; the reason is what had become of the member that handled it before. An ordered group may go back
//! under a key only because a member was killed before it committed what it had handled, and never skips a message.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};

use crate::journal::Entry;
use crate::load::{Group, Sent};

/// What was handled, by whom, in which order.
#[derive(Default)]
pub(crate) struct Ledger {
    members: HashMap<u32, Fate>,
    /// Members that are Java's.
    java: HashSet<u32>,
    concurrent: Handled,
    ordered: Handled,
    pub(crate) corrupt: usize,
    pub(crate) started: HashSet<u32>,
    pub(crate) left: usize,
    pub(crate) killed: usize,
}

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Alive,
    Left,
    Killed,
}

/// Why something came again: what had become of the member that had it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    Killed,
    Left,
    /// The member is alive: its queue went to another one.
    HandedOver,
    /// As the last two, of a member of Java's.
    Java,
}

#[derive(Default)]
struct Handled {
    keys: HashMap<usize, Key>,
    total: usize,
    repeats: Vec<Repeat>,
    backwards: Vec<Repeat>,
    overtaking: Vec<(usize, usize)>,
}

#[derive(Default)]
struct Key {
    /// Who handled each message last.
    by: Vec<Option<u32>>,
    /// Messages from the first that were handled without a gap.
    complete: usize,
    /// The last event: member and number.
    last: Option<(u32, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repeat {
    key: usize,
    seq: usize,
    cause: Cause,
}

/// What is said of a group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    group: Group,
    acknowledged: usize,
    handled: usize,
    pub(crate) lost: usize,
    /// By cause.
    duplicates: HashMap<Cause, usize>,
    /// Handled twice because they may have been stored twice.
    stored_twice: usize,
    backwards: HashMap<Cause, usize>,
    overtaking: usize,
}

impl Ledger {
    pub(crate) fn enter(&mut self, entry: &Entry) {
        match *entry {
            Entry::Java(member) => {
                self.java.insert(member);
            }
            Entry::Started(member) => {
                self.started.insert(member);
                self.members.entry(member).or_insert(Fate::Alive); // it may have been told to go while it started
            }
            Entry::Leaving(member) => {
                self.left += 1;
                self.members.insert(member, Fate::Left);
            }
            Entry::Killing(member) => {
                self.killed += 1;
                self.members.insert(member, Fate::Killed);
            }
            Entry::Corrupt { .. } => self.corrupt += 1,
            Entry::Handled { group, member, key, seq } => self.handled(group, member, key, seq),
        }
    }

    /// Messages of a group that were handled, each time counted.
    pub(crate) fn total(&self, group: Group) -> usize {
        self.of(group).total
    }

    /// Whether everything that was acknowledged was handled.
    pub(crate) fn has_all(&self, group: Group, sent: &Sent) -> bool {
        let keys = &self.of(group).keys;
        sent.acknowledged(group)
            .enumerate()
            .all(|(key, count)| count == 0 || keys.get(&key).is_some_and(|key| key.complete >= count))
    }

    pub(crate) fn judge(&self, group: Group, sent: &Sent) -> Verdict {
        let handled = self.of(group);
        let twice = sent.maybe_twice(group);
        let excused = |repeat: &&Repeat| twice.contains(&(repeat.key, repeat.seq));
        let missing = |(key, count): (usize, usize)| {
            let by = handled.keys.get(&key).map_or(&[][..], |key| &key.by[..]);
            count - by.iter().take(count).filter(|by| by.is_some()).count()
        };
        Verdict {
            group,
            acknowledged: sent.acknowledged(group).sum(),
            handled: handled.total,
            lost: sent.acknowledged(group).enumerate().map(missing).sum(),
            duplicates: by_cause(handled.repeats.iter().filter(|repeat| !excused(repeat))),
            stored_twice: handled.repeats.iter().filter(excused).count(),
            backwards: by_cause(handled.backwards.iter().filter(|repeat| !excused(repeat))),
            overtaking: handled.overtaking.len(),
        }
    }

    /// Some of what must not have happened, in words.
    pub(crate) fn examples(&self) -> Vec<String> {
        let repeats = |name: &'static str, repeats: &[Repeat]| {
            let odd = repeats.iter().filter(|repeat| repeat.cause != Cause::Killed);
            odd.take(5).map(|odd| format!("{name}: {odd:?}")).collect::<Vec<_>>()
        };
        let mut examples = repeats("concurrent, again", &self.concurrent.repeats);
        examples.extend(repeats("ordered, again", &self.ordered.repeats));
        examples.extend(repeats("ordered, backwards", &self.ordered.backwards));
        let early = self.ordered.overtaking.iter().take(5);
        examples.extend(early.map(|(key, seq)| format!("ordered, too early: key {key} message {seq}")));
        examples
    }

    fn handled(&mut self, group: Group, member: u32, key_number: usize, seq: usize) {
        let cause = |previous: u32| match self.members.get(&previous) {
            Some(Fate::Killed) => Cause::Killed,
            _ if self.java.contains(&previous) => Cause::Java,
            Some(Fate::Left) => Cause::Left,
            Some(Fate::Alive) | None => Cause::HandedOver,
        };
        let handled = match group {
            Group::Concurrent => &mut self.concurrent,
            Group::Ordered => &mut self.ordered,
        };
        handled.total += 1;
        let key = handled.keys.entry(key_number).or_default();
        if key.by.len() <= seq {
            key.by.resize(seq + 1, None);
        }
        if group == Group::Ordered && seq > key.complete {
            handled.overtaking.push((key_number, seq));
        }
        if let Some((previous, _)) = key.last.filter(|(_, last)| group == Group::Ordered && seq <= *last) {
            handled.backwards.push(Repeat { key: key_number, seq, cause: cause(previous) });
        }
        key.last = Some((member, seq));
        if let Some(previous) = key.by.get_mut(seq).and_then(|by| by.replace(member)) {
            handled.repeats.push(Repeat { key: key_number, seq, cause: cause(previous) });
        }
        while key.by.get(key.complete).is_some_and(Option::is_some) {
            key.complete += 1;
        }
    }

    fn of(&self, group: Group) -> &Handled {
        match group {
            Group::Concurrent => &self.concurrent,
            Group::Ordered => &self.ordered,
        }
    }
}

impl Verdict {
    /// Nothing lost, and order held, but for what is Java's doing.
    pub(crate) fn holds(&self) -> bool {
        let ours =
            |counts: &HashMap<Cause, usize>| count(counts, Cause::Left) + count(counts, Cause::HandedOver);
        self.lost == 0 && self.overtaking == 0 && ours(&self.backwards) == 0
    }

    /// A graceful shutdown caused no duplicates, and there are fewer than 0.1 %.
    pub(crate) fn restarts_well(&self) -> bool {
        count(&self.duplicates, Cause::Left) == 0
            && self.duplicates.values().sum::<usize>() * 1000 < self.acknowledged.max(1)
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, acknowledged, handled, lost, duplicates, stored_twice, .. } = self;
        let again: usize = duplicates.values().sum();
        let rate = again as f64 * 100.0 / (*acknowledged).max(1) as f64;
        write!(f, "{:<10} acknowledged {acknowledged}, handled {handled}, lost {lost}, ", group.name())?;
        write!(f, "duplicates {again} ({rate:.3} %: {})", Causes(duplicates))?;
        if *stored_twice > 0 {
            write!(f, ", stored twice {stored_twice}")?;
        }
        if *group == Group::Ordered {
            write!(f, "; backwards {}; too early {}", Causes(&self.backwards), self.overtaking)?;
        }
        Ok(())
    }
}

struct Causes<'a>(&'a HashMap<Cause, usize>);

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |cause| count(self.0, cause);
        write!(f, "{} after a kill, {} after a leave, ", of(Cause::Killed), of(Cause::Left))?;
        write!(f, "{} at a hand-over", of(Cause::HandedOver))?;
        match of(Cause::Java) {
            0 => Ok(()),
            java => write!(f, ", {java} after a Java member left or handed over"),
        }
    }
}

fn by_cause<'a>(repeats: impl Iterator<Item = &'a Repeat>) -> HashMap<Cause, usize> {
    let mut counts = HashMap::new();
    repeats.for_each(|repeat| *counts.entry(repeat.cause).or_default() += 1);
    counts
}

fn count(counts: &HashMap<Cause, usize>, cause: Cause) -> usize {
    counts.get(&cause).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on the ordered group after these lines, when so many messages of key 0 were acknowledged.
    fn judge(lines: &str, acknowledged: u32) -> Verdict {
        let mut ledger = Ledger::default();
        lines.lines().for_each(|line| ledger.enter(&Entry::parse(line.trim()).unwrap()));
        let sent = Sent::new(1);
        (0..acknowledged).for_each(|_| sent.acknowledge(Group::Ordered, 0));
        assert_eq!(ledger.has_all(Group::Ordered, &sent), ledger.judge(Group::Ordered, &sent).lost == 0);
        ledger.judge(Group::Ordered, &sent)
    }

    #[test]
    fn what_was_acknowledged_and_never_handled_is_lost() {
        let verdict = judge("ordered 1 0 0\nordered 1 0 1", 3);
        assert_eq!((verdict.lost, verdict.holds()), (1, false));
        assert!(
            judge("ordered 1 0 0\nordered 1 0 1\nordered 1 0 2", 2).holds(),
            "an acknowledgement may get lost"
        );
    }

    #[test]
    fn going_back_is_excused_by_a_kill_only() {
        let lines =
            |what| format!("started 1\nordered 1 0 0\nordered 1 0 1\n{what}ordered 2 0 0\nordered 2 0 1");
        let killed = judge(&lines("killing 1\n"), 2);
        assert_eq!((killed.holds(), killed.duplicates[&Cause::Killed]), (true, 2));
        assert_eq!(killed.backwards[&Cause::Killed], 1);
        let left = judge(&lines("leaving 1\n"), 2);
        assert_eq!((left.holds(), left.restarts_well(), left.backwards[&Cause::Left]), (false, false, 1));
        let alive = judge(&lines(""), 2);
        assert_eq!((alive.holds(), alive.backwards[&Cause::HandedOver]), (false, 1));
        let java = judge(&format!("java 1\n{}", lines("leaving 1\n")), 2);
        assert_eq!((java.holds(), java.backwards[&Cause::Java]), (true, 1));
    }

    #[test]
    fn a_message_handled_before_the_one_that_precedes_it_is_too_early() {
        let verdict = judge("ordered 1 0 0\nordered 1 0 2\nordered 1 0 1", 3);
        assert_eq!((verdict.lost, verdict.overtaking, verdict.holds()), (0, 1, false));
    }

    #[test]
    fn what_the_producer_may_have_stored_twice_may_come_twice() {
        let mut ledger = Ledger::default();
        for _ in 0..2 {
            ledger.enter(&Entry::Handled { group: Group::Ordered, member: 1, key: 0, seq: 0 });
        }
        let sent = Sent::new(1);
        sent.acknowledge(Group::Ordered, 0);
        assert!(!ledger.judge(Group::Ordered, &sent).holds());
        sent.may_be_twice(Group::Ordered, 0, 0);
        let verdict = ledger.judge(Group::Ordered, &sent);
        assert!(verdict.holds() && verdict.restarts_well(), "{verdict}");
        assert_eq!(verdict.stored_twice, 1);
    }
}
