//! Captures: packets out of pcap and pcapng files, TCP put together again, frames cut out of it.

mod capture;
mod packet;
mod stream;

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::SocketAddr;

use crate::frame::Direction;
use crate::limits::CONNECTIONS_MAX;
use crate::printer::Printer;
use crate::session::{Seen, Sessions};

pub use capture::{Capture, Packet};
pub use packet::{Segment, segment};

use stream::{Half, Piece};

/// Shows the sessions of a capture.
pub struct Follower<'a> {
    sessions: Sessions,
    printer: &'a mut Printer,
    /// Ports of brokers; empty for any.
    ports: Vec<u16>,
    connections: HashMap<(SocketAddr, SocketAddr), Connection>,
    last_number: u64,
    is_whole: bool,
}

struct Connection {
    number: u64,
    requests: Half,
    responses: Half,
}

impl<'a> Follower<'a> {
    /// Shows what `sessions` selects of connections to brokers at `ports`.
    pub fn new(sessions: Sessions, ports: Vec<u16>, printer: &'a mut Printer) -> Self {
        Self { sessions, printer, ports, connections: HashMap::new(), last_number: 0, is_whole: true }
    }

    /// Reads a capture to its end; gives whether every frame decoded.
    ///
    /// # Errors
    /// When it cannot be read, or is none. A capture that ends inside of a packet ends there.
    pub fn follow(mut self, from: impl Read) -> io::Result<bool> {
        let mut capture = Capture::open(from)?;
        while let Some(packet) = capture.next_packet()? {
            if let Some(segment) = segment(packet.link, &packet.bytes) {
                self.segment(&segment, packet.time_us)?;
            }
        }
        let mut left: Vec<_> = self.connections.drain().map(|(_, connection)| connection).collect();
        left.sort_by_key(|connection| connection.number);
        for mut connection in left {
            self.finish(&mut connection)?;
        }
        Ok(self.is_whole)
    }

    fn segment(&mut self, segment: &Segment, time_us: i64) -> io::Result<()> {
        let (from, to) = (segment.from, segment.to);
        let open = |ports: &[u16], port| ports.is_empty() || ports.contains(&port);
        if !open(&self.ports, from.port()) && !open(&self.ports, to.port()) {
            return Ok(());
        }
        // A connection goes by client and broker.
        let is_request = match () {
            () if self.connections.contains_key(&(from, to)) => true,
            () if self.connections.contains_key(&(to, from)) => false,
            () if segment.is_syn => !segment.is_ack,
            () if !self.ports.is_empty() => self.ports.contains(&to.port()),
            () => to.port() < from.port(),
        };
        let key = if is_request { (from, to) } else { (to, from) };
        if segment.is_syn && !segment.is_ack {
            // The same ports again: another connection.
            if let Some(mut before) = self.connections.remove(&key) {
                self.finish(&mut before)?;
            }
        }
        if !self.connections.contains_key(&key) && self.connections.len() >= CONNECTIONS_MAX {
            return Ok(());
        }
        let mut connection = self.connections.remove(&key).unwrap_or_else(|| {
            self.last_number += 1;
            Connection { number: self.last_number, requests: Half::default(), responses: Half::default() }
        });
        let half = if is_request { &mut connection.requests } else { &mut connection.responses };
        half.take(segment, time_us);
        self.drain(&mut connection)?;
        if segment.is_rst || connection.requests.is_over() && connection.responses.is_over() {
            self.finish(&mut connection)
        } else {
            self.connections.insert(key, connection);
            Ok(())
        }
    }

    /// What is missing will not come any more.
    fn finish(&mut self, connection: &mut Connection) -> io::Result<()> {
        while connection.requests.give_up() | connection.responses.give_up() {
            self.drain(connection)?;
        }
        self.sessions.close(connection.number);
        Ok(())
    }

    fn drain(&mut self, connection: &mut Connection) -> io::Result<()> {
        let Connection { number, requests, responses } = connection;
        for (direction, half) in [(Direction::Request, requests), (Direction::Response, responses)] {
            let is_plausible = |bytes: &[u8]| self.sessions.is_plausible(direction, *number, bytes);
            // What is plausible depends on the frames before, so that one is taken at a time.
            let mut next = half.next_piece(is_plausible);
            while let Some(piece) = next {
                match piece {
                    Piece::Frame(bytes, time_us) => {
                        let seen = Seen { direction, connection: *number, time_us: Some(time_us), bytes };
                        if let Some(frame) = self.sessions.see(seen) {
                            self.is_whole &= frame.failure.is_none();
                            self.printer.frame(&frame)?;
                        }
                    }
                    Piece::Unreadable(why) => {
                        self.is_whole = false;
                        self.printer.unreadable(*number, direction, &why)?;
                    }
                }
                next = half.next_piece(|bytes| self.sessions.is_plausible(direction, *number, bytes));
            }
        }
        Ok(())
    }
}
