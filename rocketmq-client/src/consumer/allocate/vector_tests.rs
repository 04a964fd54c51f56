//! Every strategy against what Java's classes answered: `testdata/rebalance`.

use super::*;

const VECTORS: &str = include_str!("../../../testdata/rebalance/vectors.txt");

struct Rooms;

impl MachineRoomResolver for Rooms {
    fn broker_room(&self, queue: &MessageQueue) -> Option<String> {
        queue.broker_name.split('@').next().map(str::to_owned)
    }

    fn client_room(&self, client_id: &str) -> Option<String> {
        client_id.split('.').nth(2).map(|room| format!("room{room}"))
    }
}

fn strategies() -> Vec<Box<dyn AllocateStrategy>> {
    vec![
        Box::new(Averagely),
        Box::new(AveragelyByCircle),
        Box::new(ConsistentHash::default()),
        Box::new(ByMachineRoom::new(["room1", "room3"])),
        Box::new(MachineRoomNearby::new(Averagely, Rooms)),
        Box::new(MachineRoomNearby::new(AveragelyByCircle, Rooms)),
        Box::new(MachineRoomNearby::new(ConsistentHash::default(), Rooms)),
    ]
}

fn queues(count: i32) -> Vec<MessageQueue> {
    let queue = |k| MessageQueue::new("T", format!("room{}@broker", k % 4), k / 4);
    let mut queues: Vec<_> = (0..count).map(queue).collect();
    queues.sort();
    queues
}

fn members(count: usize) -> Vec<String> {
    let mut members: Vec<_> = (0..count).map(|i| format!("10.0.{}.{i}@{}", i % 3, 100 + i * 37)).collect();
    members.sort();
    members
}

fn shares(strategy: &dyn AllocateStrategy, members: &[String], queues: &[MessageQueue]) -> String {
    let share = |me: &String| {
        let own = strategy.allocate(me, queues, members).unwrap();
        let place = |queue: &MessageQueue| queues.binary_search(queue).unwrap().to_string();
        own.iter().map(place).collect::<Vec<_>>().join(",")
    };
    members.iter().map(share).collect::<Vec<_>>().join(";")
}

#[test]
fn every_strategy_divides_up_to_200_queues_as_java() {
    // All numbers of members take minutes where every division hashes or copies every queue.
    let is_quick = |name: &str| matches!(name, "AVG" | "AVG_BY_CIRCLE");
    let checked = compare_with_java(|name, members| is_quick(name) || [1, 2, 3, 7, 16].contains(&members));
    assert_eq!(checked, (7 * 8, 2 * 50 + 5 * 5));
}

#[test]
#[ignore = "takes minutes"]
fn every_strategy_divides_up_to_200_queues_among_up_to_50_members_as_java() {
    assert_eq!(compare_with_java(|_, _| true), (7 * 8, 7 * 50));
}

/// Returns how many full cases and digests were the same.
fn compare_with_java(wanted: impl Fn(&str, usize) -> bool) -> (usize, usize) {
    let (mut full, mut digests) = (0, 0);
    let strategies = strategies();
    let named = |name: &str| &**strategies.iter().find(|strategy| strategy.name() == name).unwrap();
    let all: Vec<_> = (1..=200).map(queues).collect();
    for line in VECTORS.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        match fields[..] {
            ["full", name, c, n, expected] => {
                let (c, n): (usize, usize) = (c.parse().unwrap(), n.parse().unwrap());
                assert_eq!(shares(named(name), &members(c), &all[n - 1]), expected, "{name} {c} {n}");
                full += 1;
            }
            ["digest", name, c, expected] => {
                let members = members(c.parse().unwrap());
                if !wanted(name, members.len()) {
                    continue;
                }
                let mut digest = md5::Context::new();
                for queues in &all {
                    digest.consume(shares(named(name), &members, queues) + "\n");
                }
                assert_eq!(format!("{:x}", digest.finalize()), expected, "{name}, {c} members");
                digests += 1;
            }
            _ => panic!("{line}"),
        }
    }
    (full, digests)
}

#[test]
fn every_queue_has_exactly_one_owner() {
    for strategy in strategies().iter().filter(|strategy| strategy.name() != "MACHINE_ROOM") {
        for (n, c) in (1..=40).step_by(3).flat_map(|n| (1..=50).step_by(7).map(move |c| (n, c))) {
            let (queues, members) = (queues(n), members(c));
            let own = |me: &String| strategy.allocate(me, &queues, &members).unwrap();
            let mut owned: Vec<_> = members.iter().flat_map(own).collect();
            owned.sort();
            assert_eq!(owned, queues, "{}: {n} queues, {c} members", strategy.name());
        }
    }
}

#[test]
fn someone_who_is_no_member_gets_nothing() {
    for strategy in strategies() {
        assert!(strategy.allocate("x", &queues(4), &members(2)).unwrap().is_empty(), "{}", strategy.name());
    }
}

#[test]
fn a_room_that_nobody_knows_is_an_error_and_no_empty_share() {
    let strategy = MachineRoomNearby::new(Averagely, Rooms);
    let error = strategy.allocate("nowhere", &queues(4), &["nowhere".to_owned()]).unwrap_err();
    assert!(error.to_string().contains("client nowhere"), "{error}");
}

#[test]
fn a_fixed_list_holds_whoever_else_is_there_and_leaves_other_topics_to_the_average() {
    let own = [MessageQueue::new("T", "room1@broker", 0), MessageQueue::new("T", "gone", 0)];
    let strategy = ByConfig::new(own.clone());
    let members = members(2);
    assert_eq!(strategy.allocate(&members[0], &queues(8), &members).unwrap(), own[..1]);
    let retry = [MessageQueue::new("%RETRY%g", "b", 0)];
    assert_eq!(strategy.allocate(&members[0], &retry, &members).unwrap(), retry);
    assert!(strategy.allocate(&members[1], &retry, &members).unwrap().is_empty());
}

#[test]
fn a_closure_is_a_strategy() {
    fn name_of(strategy: &impl AllocateStrategy) -> String {
        strategy.name()
    }
    let first_takes_all = |me: &str, queues: &[MessageQueue], members: &[String]| {
        if members[0] == me { queues.to_vec() } else { Vec::new() }
    };
    assert_eq!(name_of(&first_takes_all), "CUSTOM");
    assert_eq!(first_takes_all.allocate(&members(2)[0], &queues(3), &members(2)).unwrap(), queues(3));
}
