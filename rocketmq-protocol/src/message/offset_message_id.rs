//! [`OffsetMessageId`]: the message id that says where a message is.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::MessageError;
use crate::LogPosition;

/// Broker address and commit-log position of a message. As text: upper-case hex of the address (4 or 16 bytes), the port
/// (4) and the position (8), so 32 or 56 digits. Java: `common/message/MessageDecoder.java`, `createMessageId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetMessageId {
    /// The broker's advertised address.
    pub host: SocketAddr,
    /// Where its log has the message.
    pub position: LogPosition,
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            SocketAddr::V4(host) => write!(f, "{:08X}", host.ip().to_bits())?,
            SocketAddr::V6(host) => write!(f, "{:032X}", host.ip().to_bits())?,
        }
        write!(f, "{:08X}{:016X}", self.host.port(), self.position.get())
    }
}

impl FromStr for OffsetMessageId {
    type Err = MessageError;

    /// Reads either case.
    fn from_str(text: &str) -> Result<Self, MessageError> {
        parse(text).ok_or_else(|| MessageError::MessageId { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<OffsetMessageId> {
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None; // `from_str_radix` takes a sign
    }
    let (address, rest) = text.split_at_checked(text.len().checked_sub(24)?)?;
    let (port, position) = rest.split_at_checked(8)?;
    let ip = match address.len() {
        8 => Ipv4Addr::from_bits(u32::from_str_radix(address, 16).ok()?).into(),
        32 => Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?).into(),
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    let position = u64::from_str_radix(position, 16).ok()? as i64;
    Some(OffsetMessageId { host: SocketAddr::new(ip, port), position: LogPosition::new(position) })
}
