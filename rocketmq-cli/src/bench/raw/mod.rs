//! Load without a client: threads that send frames made beforehand and take answers apart, and nothing else. What it measures is
//! the broker, where both run on the same few cores.

pub(super) mod consume;
mod line;
pub(super) mod produce;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rocketmq_client::Error;
use rocketmq_protocol::QueueId;
use rocketmq_protocol::body::{Perm, TopicRouteData};
use rocketmq_protocol::requests::GetRouteInfo;

use self::line::{Line, failed};
use crate::Failure;

/// A queue, and where its master listens.
struct Place {
    broker: String,
    addr: String,
    queue_id: QueueId,
}

/// What is done with a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// The topic's queues, as the first of the name servers tells that can be reached.
fn places(
    name_servers: &[Arc<str>],
    topic: &str,
    access: Access,
    patience: Duration,
) -> Result<Vec<Place>, Failure> {
    let asked = GetRouteInfo { topic: topic.into(), accept_standard_json_only: Some(true) };
    let ask = |addr: &Arc<str>| Line::connect(addr, patience)?.call(&asked);
    let mut outcomes = name_servers.iter().map(ask);
    let first = outcomes.next().ok_or(Error::NoNameServer)?;
    let route = first.or_else(|error| outcomes.find_map(Result::ok).ok_or(error))?.route.route;
    let places = places_of(&route, access);
    if places.is_empty() {
        return Err(Failure::Options(format!("--mode raw: no master has queues of {topic}")));
    }
    Ok(places)
}

fn places_of(route: &TopicRouteData, access: Access) -> Vec<Place> {
    let mut places = Vec::new();
    for queues in &route.queue_datas {
        let (allowed, count) = match access {
            Access::Read => (queues.perm.contains(Perm::READ), queues.read_queue_nums),
            Access::Write => (queues.perm.contains(Perm::WRITE), queues.write_queue_nums),
        };
        let master = route.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name);
        let Some(addr) = master.and_then(|broker| broker.master_addr()).filter(|_| allowed) else { continue };
        let place = |queue_id| Place {
            broker: queues.broker_name.clone(),
            addr: addr.to_owned(),
            queue_id: QueueId::new(queue_id),
        };
        places.extend((0..count).map(place));
    }
    places
}

/// Does the work of each broker over a connection to it, on a thread of its own, and returns what came of each. Nothing is begun
/// unless all can be connected to.
fn by_broker<W: Send, T: Send>(
    shares: BTreeMap<&str, W>,
    patience: Duration,
    work: impl Fn(Line, W) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let connect = |(addr, share)| Ok((Line::connect(addr, patience)?, share));
    let lines: Vec<_> = shares.into_iter().map(connect).collect::<Result<_, Failure>>()?;
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> =
            lines.into_iter().map(|(line, share)| scope.spawn(move || work(line, share))).collect();
        let panicked = |_| Err(failed("send or pull")(io::Error::other("a thread has panicked")));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}
