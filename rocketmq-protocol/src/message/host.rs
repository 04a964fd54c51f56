//! Socket addresses as a record stores them: 4 or 16 bytes of address, then the port as four bytes. Which of the two
//! it is, a bit of the [`SysFlag`](super::SysFlag) says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BufMut;

/// Bytes that an address takes.
pub(super) const fn len(v6: bool) -> usize {
    if v6 { 20 } else { 8 }
}

/// Bytes that `host` takes.
pub(super) const fn encoded_len(host: SocketAddr) -> usize {
    len(host.is_ipv6())
}

pub(super) fn write(host: SocketAddr, out: &mut impl BufMut) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u32(host.port().into());
}

/// Reads an address from as many bytes as it takes.
pub(super) fn decode(bytes: &[u8]) -> SocketAddr {
    // The upper half of the port is zero. It is not checked: a flipped bit there must not cost the message.
    let port = bytes.last_chunk().map_or(0, |port| u16::from_be_bytes(*port));
    let ip: IpAddr = match (bytes.first_chunk::<16>(), bytes.first_chunk::<4>()) {
        (Some(ip), _) => Ipv6Addr::from(*ip).into(),
        (None, Some(ip)) => Ipv4Addr::from(*ip).into(),
        (None, None) => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, port)
}
