//! Socket addresses as a record stores them: 4 or 16 bytes of address, then the port as four bytes. Which of the two
//! it is, a bit of the [`SysFlag`](super::SysFlag) says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BufMut;

use super::MessageError;
use super::reader::Reader;

/// Bytes that `host` takes.
pub(super) const fn encoded_len(host: SocketAddr) -> usize {
    match host {
        SocketAddr::V4(_) => 8,
        SocketAddr::V6(_) => 20,
    }
}

pub(super) fn write(host: SocketAddr, out: &mut impl BufMut) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u32(host.port().into());
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    field: &'static str,
    v6: bool,
) -> Result<SocketAddr, MessageError> {
    let ip: IpAddr = if v6 {
        Ipv6Addr::from(reader.array::<16>(field)?).into()
    } else {
        Ipv4Addr::from(reader.array::<4>(field)?).into()
    };
    // The upper half is zero. It is not checked: a flipped bit there must not cost the message.
    let [_, _, high, low] = reader.array(field)?;
    Ok(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
}
