//! [`OffsetMessageId`]: the message id that says where a message is.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bytes::BytesMut;

use super::MessageError;
use super::hex::hex_digits;
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

/// Writes the ids of one broker's messages.
#[derive(Clone, Debug)]
pub struct OffsetMessageIds {
    /// The digits of address and port.
    host: Vec<u8>,
}

impl OffsetMessageIds {
    /// Those of messages stored by the broker with this advertised address.
    pub fn of(host: SocketAddr) -> Self {
        let mut digits = match host {
            SocketAddr::V4(host) => hex_digits::<8>(host.ip().to_bits().into()).to_vec(),
            SocketAddr::V6(host) => hex_digits::<32>(host.ip().to_bits()).to_vec(),
        };
        digits.extend_from_slice(&hex_digits::<8>(host.port().into()));
        Self { host: digits }
    }

    /// Appends the digits of the id of the message at `position`.
    pub fn write(&self, position: LogPosition, out: &mut BytesMut) {
        out.extend_from_slice(&self.host);
        out.extend_from_slice(&hex_digits::<16>(u128::from(position.get() as u64)));
    }
}

impl fmt::Display for OffsetMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = BytesMut::with_capacity(56);
        OffsetMessageIds::of(self.host).write(self.position, &mut digits);
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_survive_printing_and_parsing(ip: std::net::IpAddr, port: u16, position: i64) {
            let id = OffsetMessageId { host: SocketAddr::new(ip, port), position: position.into() };
            let text = id.to_string();
            prop_assert_eq!(text.len(), if ip.is_ipv4() { 32 } else { 56 });
            prop_assert_eq!(text.parse(), Ok(id));
            prop_assert_eq!(text.to_lowercase().parse(), Ok(id));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in "[0-9A-Fa-f]{28,60}|\\PC{0,60}") {
            drop(text.parse::<OffsetMessageId>());
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "0A00000100002A9F000000000000123",   // a digit short
            "0A000001+0002A9F0000000000001234",  // a sign
            "0A00000100012A9F0000000000001234",  // a port of 17 bits
            "0A00000100002A9F00000000000012é34", // not hex
        ] {
            assert_eq!(
                text.parse::<OffsetMessageId>(),
                Err(MessageError::MessageId { text: text.to_owned() })
            );
        }
    }
}
