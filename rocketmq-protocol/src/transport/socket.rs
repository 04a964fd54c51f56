//! How sockets are set up.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::{Encoding, MAX_FRAME_BYTES};

/// What every connection of a client or server has in common.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportOptions {
    /// Encoding of the requests sent. Answers are read in either and given in that of their request. Default compact.
    pub encoding: Encoding,
    /// Longest frame sent or accepted, in bytes, its length word included. Default 16 MiB.
    pub max_frame: usize,
    /// Limit of one connection attempt. Default 3 s.
    pub connect_timeout: Duration,
    /// A connection without traffic for this long is closed. Default 120 s, as Java's.
    pub idle_timeout: Duration,
    /// Bytes waiting to be written above which calls wait for room, and a server stops reading from a peer that
    /// does not read its answers. Default 16 MiB.
    pub max_queued_bytes: usize,
    /// Requests of one peer in progress above which no more are read from it. Default 65535.
    pub max_in_flight: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            encoding: Encoding::default(),
            max_frame: MAX_FRAME_BYTES,
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(120),
            max_queued_bytes: 16 * 1024 * 1024,
            max_in_flight: 65_535,
        }
    }
}

/// A peer that vanished is noticed within this time even when nothing but unacknowledged data says so; the system's
/// own limit is some 15 minutes.
const DEAD_PEER: Duration = Duration::from_secs(30);

pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(5)),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_PEER))?;
    Ok(())
}
