//! A packet's layers: link, IP, TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u128};
use nom::{IResult, Parser};

const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const RAW: u32 = 101;
const RAW_BSD: u32 = 12;
const LOOP: u32 = 108;
const LINUX_COOKED: u32 = 113;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const LINUX_COOKED_2: u32 = 276;

const TCP: u8 = 6;
/// Headers that may stand between IPv6 and TCP: hop by hop, routing, destination.
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// The first of its direction.
    pub is_syn: bool,
    /// Confirms something.
    pub is_ack: bool,
    /// The last of its direction.
    pub is_fin: bool,
    /// Ends the connection.
    pub is_rst: bool,
    /// What it carries.
    pub payload: Bytes,
}

/// The TCP segment in a packet; `None` for anything else, fragments of IP among them.
#[must_use]
pub fn segment(link: u32, packet: &Bytes) -> Option<Segment> {
    let (rest, ()) = link_layer(link, packet).ok()?;
    let (rest, (from, to)) = ip(rest).ok()?;
    let (payload, tcp) = tcp(rest).ok()?;
    Some(Segment {
        from: SocketAddr::new(from, tcp.from),
        to: SocketAddr::new(to, tcp.to),
        sequence: tcp.sequence,
        is_syn: tcp.flags & 0x02 != 0,
        is_ack: tcp.flags & 0x10 != 0,
        is_fin: tcp.flags & 0x01 != 0,
        is_rst: tcp.flags & 0x04 != 0,
        payload: packet.slice_ref(payload),
    })
}

fn error<T>(input: &[u8]) -> IResult<&[u8], T> {
    Err(nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Verify)))
}

fn link_layer(link: u32, packet: &[u8]) -> IResult<&[u8], ()> {
    let skip: usize = match link {
        NULL | LOOP => 4,
        RAW | RAW_BSD | IPV4 | IPV6 => 0,
        LINUX_COOKED => 16,
        LINUX_COOKED_2 => 20,
        ETHERNET => {
            let (mut rest, _) = take(12usize).parse(packet)?;
            // Tags of virtual networks stand before the type.
            loop {
                let (after, kind) = be_u16.parse(rest)?;
                match kind {
                    0x8100 | 0x88a8 => rest = take(2usize).parse(after)?.0,
                    0x0800 | 0x86dd => return Ok((after, ())),
                    _ => return error(after),
                }
            }
        }
        _ => return error(packet),
    };
    take(skip).map(|_: &[u8]| ()).parse(packet)
}

/// The payload of an IP packet that is TCP, without what pads the packet.
fn ip(input: &[u8]) -> IResult<&[u8], (IpAddr, IpAddr)> {
    let (_, version) = be_u8.parse(input)?;
    match version >> 4 {
        4 => ipv4(input),
        6 => ipv6(input),
        _ => error(input),
    }
}

fn ipv4(input: &[u8]) -> IResult<&[u8], (IpAddr, IpAddr)> {
    let (rest, (first, _, total, _, fragment)) = (be_u8, be_u8, be_u16, be_u16, be_u16).parse(input)?;
    let (_, (_, protocol, _, from, to)) = (be_u8, be_u8, be_u16, be_u32, be_u32).parse(rest)?;
    if protocol != TCP || fragment & 0x3fff != 0 {
        return error(input);
    }
    // Where the card cuts packets, the length may be 0.
    let total = if total == 0 { input.len() } else { usize::from(total) };
    let (_, packet) = take(total.min(input.len())).parse(input)?;
    let (payload, _) = take(usize::from(first & 0x0f) * 4).parse(packet)?;
    Ok((payload, (Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into())))
}

fn ipv6(input: &[u8]) -> IResult<&[u8], (IpAddr, IpAddr)> {
    let (rest, (_, length, mut next, _)) = (be_u32, be_u16, be_u8, be_u8).parse(input)?;
    let (rest, (from, to)) = (be_u128, be_u128).parse(rest)?;
    let length = if length == 0 { rest.len() } else { usize::from(length) };
    let (_, mut payload) = take(length.min(rest.len())).parse(rest)?;
    while EXTENSIONS.contains(&next) {
        let (_, (after, words)) = (be_u8, be_u8).parse(payload)?;
        payload = take(8 * (usize::from(words) + 1)).parse(payload)?.0;
        next = after;
    }
    if next != TCP {
        return error(payload);
    }
    Ok((payload, (Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into())))
}

struct Tcp {
    from: u16,
    to: u16,
    sequence: u32,
    flags: u8,
}

fn tcp(input: &[u8]) -> IResult<&[u8], Tcp> {
    let (_, (from, to, sequence, _, words, flags)) =
        (be_u16, be_u16, be_u32, be_u32, be_u8, be_u8).parse(input)?;
    let (payload, _) = take(usize::from(words >> 4) * 4).parse(input)?;
    Ok((payload, Tcp { from, to, sequence, flags }))
}
