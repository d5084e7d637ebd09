//! The files: pcap in either byte order, with micro- or nanoseconds, and pcapng.

use std::io::{self, BufReader, Read};

use bytes::Bytes;
use nom::number::Endianness;
use nom::number::complete::{u16 as number16, u32 as number32};
use nom::{IResult, Parser};

use crate::limits::PACKET_BYTES_MAX;

const PCAP_MICROS: u32 = 0xa1b2_c3d4;
const PCAP_NANOS: u32 = 0xa1b2_3c4d;
const PCAPNG_SECTION: u32 = 0x0a0d_0d0a;
const PCAPNG_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Interfaces of a pcapng section.
const INTERFACES_MAX: usize = 1024;
/// Bytes of a block beside its packet.
const BLOCK_EXTRA_BYTES: usize = 64 << 10;

/// One packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When it was seen, in microseconds since 1970.
    pub time_us: i64,
    /// Link type, by the number that captures use.
    pub link: u32,
    /// Its bytes, with the link's header.
    pub bytes: Bytes,
}

#[derive(Clone, Copy)]
struct Interface {
    link: u32,
    /// Units of time in a second.
    units: u64,
}

enum Form {
    Pcap { interface: Interface },
    Pcapng { interfaces: Vec<Interface> },
}

/// Reads the packets of a capture.
pub struct Capture<R> {
    from: BufReader<R>,
    order: Endianness,
    form: Form,
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn parsed<T>(result: IResult<&[u8], T>) -> io::Result<T> {
    result.map(|(_, value)| value).map_err(|_| invalid("a block is too short"))
}

impl<R: Read> Capture<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// When it is no capture.
    pub fn open(from: R) -> io::Result<Self> {
        let mut from = BufReader::with_capacity(1 << 20, from);
        let mut magic = [0; 4];
        from.read_exact(&mut magic)?;
        let big = u32::from_be_bytes(magic);
        let (order, magic) = match big {
            PCAP_MICROS | PCAP_NANOS => (Endianness::Big, big),
            _ => (Endianness::Little, u32::from_le_bytes(magic)),
        };
        let units = match magic {
            PCAP_MICROS => 1_000_000,
            PCAP_NANOS => 1_000_000_000,
            PCAPNG_SECTION => {
                let mut capture = Self { from, order, form: Form::Pcapng { interfaces: Vec::new() } };
                capture.section()?;
                return Ok(capture);
            }
            _ => return Err(invalid("neither pcap nor pcapng")),
        };
        let mut head = [0; 20];
        from.read_exact(&mut head)?;
        let link = parsed(number32(order).parse(&head[16..]))? & 0x0fff_ffff;
        Ok(Self { from, order, form: Form::Pcap { interface: Interface { link, units } } })
    }

    /// The next packet; `None` at the end, also inside of a packet.
    ///
    /// # Errors
    /// When what comes is no packet.
    pub fn next_packet(&mut self) -> io::Result<Option<Packet>> {
        let next = match self.form {
            Form::Pcap { interface } => self.pcap_packet(interface).map(Some),
            Form::Pcapng { .. } => self.pcapng_packet(),
        };
        match next {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            next => next,
        }
    }

    fn take(&mut self, size: usize, max: usize) -> io::Result<Bytes> {
        if size > max {
            return Err(invalid("a packet is larger than packets are"));
        }
        let mut bytes = vec![0; size];
        self.from.read_exact(&mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    fn pcap_packet(&mut self, interface: Interface) -> io::Result<Packet> {
        let head = self.take(16, 16)?;
        let number = || number32(self.order);
        let (seconds, part, size, _) = parsed((number(), number(), number(), number()).parse(&head))?;
        let time = u64::from(seconds) * interface.units + u64::from(part);
        let bytes = self.take(size as usize, PACKET_BYTES_MAX)?;
        Ok(packet(interface, time, bytes))
    }

    /// Reads a section's head behind its type: another byte order and other interfaces from here on.
    fn section(&mut self) -> io::Result<()> {
        let head = self.take(8, 8)?;
        let order = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        self.order = if order == PCAPNG_ORDER { Endianness::Little } else { Endianness::Big };
        let size = parsed(number32(self.order).parse(&head[..]))? as usize;
        self.take(size.saturating_sub(12), PACKET_BYTES_MAX)?;
        self.form = Form::Pcapng { interfaces: Vec::new() };
        Ok(())
    }

    fn pcapng_packet(&mut self) -> io::Result<Option<Packet>> {
        loop {
            let mut kind = [0; 4];
            self.from.read_exact(&mut kind)?;
            let kind = parsed(number32(self.order).parse(&kind[..]))?;
            if kind == PCAPNG_SECTION {
                self.section()?;
                continue;
            }
            let size = self.take(4, 4)?;
            let size = parsed(number32(self.order).parse(&size[..]))? as usize;
            // Type and size stand before the body, the size again behind it.
            let body = self.take(size.saturating_sub(8), PACKET_BYTES_MAX + BLOCK_EXTRA_BYTES)?;
            if let Some(packet) = self.block(kind, &body)? {
                return Ok(Some(packet));
            }
        }
    }

    fn block(&mut self, kind: u32, body: &Bytes) -> io::Result<Option<Packet>> {
        let (order, number) = (self.order, || number32(self.order));
        let Form::Pcapng { interfaces } = &mut self.form else { return Ok(None) };
        match kind {
            INTERFACE if interfaces.len() < INTERFACES_MAX => {
                let link = parsed(number16::<_, nom::error::Error<&[u8]>>(order).parse(body))?.into();
                let options = body.get(8..).unwrap_or_default();
                interfaces.push(Interface { link, units: time_units(options, order) });
                Ok(None)
            }
            ENHANCED_PACKET => {
                let mut head = (number(), number(), number(), number(), number());
                let (index, high, low, size, _) = parsed(head.parse(body))?;
                let interface = interfaces.get(index as usize).copied();
                let interface = interface.ok_or_else(|| invalid("a packet of an unknown interface"))?;
                let end = 20 + (size as usize).min(body.len() - 20);
                let time = u64::from(high) << 32 | u64::from(low);
                Ok(Some(packet(interface, time, body.slice(20..end))))
            }
            SIMPLE_PACKET => {
                let size = parsed(number().parse(body))?;
                let first = interfaces.first().copied();
                let interface = first.ok_or_else(|| invalid("a packet of an unknown interface"))?;
                let end = 4 + (size as usize).min(body.len() - 4);
                Ok(Some(packet(interface, 0, body.slice(4..end))))
            }
            _ => Ok(None),
        }
    }
}

fn packet(interface: Interface, time: u64, bytes: Bytes) -> Packet {
    let micros = u128::from(time) * 1_000_000 / u128::from(interface.units.max(1));
    Packet { time_us: i64::try_from(micros).unwrap_or(i64::MAX), link: interface.link, bytes }
}

/// Option 9 of an interface: a power of ten, or of two with the high bit set; microseconds without it.
fn time_units(mut options: &[u8], order: Endianness) -> u64 {
    const TIME_RESOLUTION: u16 = 9;
    let head = |input| -> IResult<&[u8], (u16, u16)> { (number16(order), number16(order)).parse(input) };
    while let Ok((rest, (code, size))) = head(options) {
        if code == TIME_RESOLUTION
            && let Some(power) = rest.first()
        {
            let base: u64 = if power & 0x80 == 0 { 10 } else { 2 };
            return base.checked_pow(u32::from(power & 0x7f)).unwrap_or(u64::MAX);
        }
        let padded = usize::from(size).next_multiple_of(4);
        options = rest.get(padded..).unwrap_or_default();
    }
    1_000_000
}
