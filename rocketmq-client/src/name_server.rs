//! [`NameServers`]: who is asked for routes. One is stuck to; when it gives no answer, the next takes its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocketmq_protocol::ResponseCode;
use rocketmq_protocol::request::Request;
use rocketmq_protocol::transport::RequestError;
use tracing::{debug, info};

use crate::Error;
use crate::connections::Connections;
use crate::deadline::Deadline;
use crate::error::NameServerFailure;

/// The environment variable that holds the name servers where the builder is not given any.
pub(crate) const NAMESRV_ADDR: &str = "NAMESRV_ADDR";

/// The name servers of a client.
pub(crate) struct NameServers {
    /// Held to read or replace, never while asking.
    list: Mutex<List>,
}

#[derive(Clone)]
struct List {
    addrs: Arc<[Arc<str>]>,
    /// Which one is stuck to.
    current: usize,
}

impl NameServers {
    pub(crate) fn new(addrs: Vec<Arc<str>>) -> Self {
        Self { list: Mutex::new(List::new(addrs)) }
    }

    /// Asks the current name server, and the others in turn when there is no answer. A refusal is an answer.
    /// Returns the address of who answered, too.
    pub(crate) async fn call<R: Request>(
        &self,
        connections: &Connections,
        request: &R,
        deadline: Deadline,
    ) -> Result<(Arc<str>, Result<R::Reply, Error>), Error> {
        let List { addrs, current } = self.list().clone();
        if addrs.is_empty() {
            return Err(Error::NoNameServer);
        }
        let mut asked = Vec::new();
        let in_turn = (0..addrs.len()).filter_map(|step| {
            let at = (current + step) % addrs.len();
            Some((at, addrs.len() - step, addrs.get(at)?))
        });
        for (at, left, addr) in in_turn {
            match ask(connections, addr, request, deadline.share(left)).await {
                Err(error) if is_no_answer(&error) => {
                    debug!(peer = %addr, %error, "name server gave no answer");
                    asked.push(NameServerFailure { addr: addr.to_string(), error: Box::new(error) });
                }
                answer => {
                    if !asked.is_empty() {
                        info!(peer = %addr, "name server changed");
                        self.stick_to(at, addr);
                    }
                    return Ok((Arc::clone(addr), answer));
                }
            }
        }
        Err(Error::NameServersUnavailable { asked })
    }

    /// Replaces the list. Connections to servers off it close at the next clean-up.
    pub(crate) fn replace(&self, addrs: Vec<Arc<str>>) {
        let mut list = self.list();
        let mut known: Vec<_> = list.addrs.to_vec();
        let mut new = addrs.clone();
        known.sort();
        new.sort();
        if known != new {
            info!(name_servers = ?addrs, "name servers replaced");
            *list = List::new(addrs);
        }
    }

    pub(crate) fn addresses(&self) -> Arc<[Arc<str>]> {
        Arc::clone(&self.list().addrs)
    }

    fn stick_to(&self, at: usize, addr: &str) {
        let mut list = self.list();
        if list.addrs.get(at).is_some_and(|there| **there == *addr) {
            list.current = at; // unless the list was replaced meanwhile
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn new(addrs: Vec<Arc<str>>) -> Self {
        // Anywhere, so that clients spread over the servers.
        let current = rand::random_range(0..addrs.len().max(1));
        Self { addrs: addrs.into(), current }
    }
}

async fn ask<R: Request>(
    connections: &Connections,
    addr: &Arc<str>,
    request: &R,
    deadline: Deadline,
) -> Result<R::Reply, Error> {
    let connection = connections.connect(addr, deadline).await?;
    Ok(connection.call(request, deadline.left()).await?)
}

/// Whether another name server should be asked. One that has just started says `SYSTEM_ERROR`.
fn is_no_answer(error: &Error) -> bool {
    match error {
        Error::Timeout { .. } => true,
        Error::Request(error) => match &**error {
            RequestError::Refused { code, .. } => {
                [ResponseCode::SYSTEM_ERROR, ResponseCode::SYSTEM_BUSY, ResponseCode::GO_AWAY].contains(code)
            }
            _ => true,
        },
        _ => false,
    }
}

/// Takes a list apart as users write it: `host:port`, joined by `;` or `,`, each perhaps behind `http://`.
pub(crate) fn parse_list(text: &str) -> impl Iterator<Item = Arc<str>> {
    text.split([';', ',']).filter_map(|entry| {
        let addr = entry.trim().trim_end_matches('/').rsplit('/').next()?;
        (!addr.is_empty()).then(|| addr.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_apart_as_users_write_it() {
        let parsed = |text| parse_list(text).map(|addr| addr.to_string()).collect::<Vec<_>>();
        assert_eq!(parsed("a:1;b:2"), ["a:1", "b:2"]);
        assert_eq!(parsed(" a:1 , http://b:2/ ;;"), ["a:1", "b:2"]);
        assert!(parsed("").is_empty());
    }
}
