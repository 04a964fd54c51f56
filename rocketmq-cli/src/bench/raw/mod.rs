//! Load without a client: threads that send frames made beforehand and take answers apart, and nothing else. What it measures is
//! the broker, where both run on the same few cores.

pub(super) mod consume;
mod line;
pub(super) mod produce;

use std::time::Duration;

use rocketmq_protocol::QueueId;
use rocketmq_protocol::body::{Perm, TopicRouteData};
use rocketmq_protocol::requests::GetRouteInfo;

use self::line::Line;
use super::target::Target;
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

/// The topic's queues, as the first name server tells that can be reached.
fn places(target: &Target, access: Access, patience: Duration) -> Result<Vec<Place>, Failure> {
    let asked = GetRouteInfo { topic: (&target.topic).into(), accept_standard_json_only: Some(true) };
    let ask = |addr: &String| Line::connect(addr, patience)?.call(&asked);
    let name_servers = target.name_servers();
    let mut outcomes = name_servers.iter().map(ask);
    let missing = || Failure::Options("--mode raw: give a name server as --namesrv HOST:PORT".into());
    let first = outcomes.next().ok_or_else(missing)?;
    let route = first.or_else(|error| outcomes.find_map(Result::ok).ok_or(error))?.route.route;
    let places = places_of(&route, access);
    if places.is_empty() {
        return Err(Failure::Options(format!("--mode raw: no master has queues of {}", target.topic)));
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
