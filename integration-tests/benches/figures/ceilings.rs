//! What this machine can do at most, by plain loops on blocking sockets: the processor seconds of the serving thread for
//! each GB. A broker that costs as much as these does nothing else.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::thread::JoinHandle;

use ottla_integration_tests::work_directory;
use rustix::time::{ClockId, clock_gettime};

use crate::Options;

/// Requests that a client has in flight, as librdkafka has.
const IN_FLIGHT: usize = 4;
const CHUNK: usize = 1 << 20;
const TRIES: usize = 3;

/// Processor seconds for a GB.
pub struct Ceilings {
    /// A server that reads frames of 16 and 128 KiB and drops them.
    pub dropped: [f64; 2],
    /// A server that reads them, computes their CRC32C and writes them to a file.
    pub written: [f64; 2],
    /// A server that reads a file from the page cache and sends it, 1 MiB at a time.
    pub sent: f64,
}

pub const SIZES: [usize; 2] = [16 << 10, 128 << 10];

impl Ceilings {
    /// The write ceiling for batches of about `bytes`.
    pub fn written_for(&self, bytes: usize) -> f64 {
        self.written[usize::from(bytes > SIZES[0])]
    }
}

/// Measures all of them, the best of three each.
pub fn measure(options: &Options) -> Ceilings {
    let total = options.scaled(1_500_000_000);
    println!("measuring the ceilings of this machine");
    let best = |one: &dyn Fn() -> f64| (0..TRIES).map(|_| one()).fold(f64::INFINITY, f64::min);
    Ceilings {
        dropped: SIZES.map(|size| best(&|| receive(size, total, false))),
        written: SIZES.map(|size| best(&|| receive(size, total, true))),
        sent: best(&|| send(total)),
    }
}

fn thread_cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Runs `serve` for one connection on its own thread; the thread gives its processor seconds.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (TcpStream, JoinHandle<f64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        stream.set_nodelay(true).expect("a socket option");
        let began = thread_cpu_s();
        serve(stream);
        thread_cpu_s() - began
    });
    let client = TcpStream::connect(address).expect("the server listens");
    client.set_nodelay(true).expect("a socket option");
    (client, thread)
}

fn receive(size: usize, total: u64, write: bool) -> f64 {
    let (mut client, thread) = server(move |mut stream| {
        let file = tempfile::tempfile_in(work_directory()).expect("a file");
        let mut buffer = vec![0; size];
        let mut at = 0;
        while stream.read_exact(&mut buffer).is_ok() {
            if write {
                std::hint::black_box(crc32c::crc32c(&buffer));
                file.write_all_at(&buffer, at).expect("room on the disk");
                at += size as u64;
            }
            stream.write_all(b"ok").expect("the client reads");
        }
    });
    let block: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    let count = usize::try_from(total).expect("fits") / size;
    let mut acknowledged = [0; 2];
    for sent in 0..count {
        client.write_all(&block).expect("the server reads");
        if sent >= IN_FLIGHT {
            client.read_exact(&mut acknowledged).expect("the server answers");
        }
    }
    for _ in 0..IN_FLIGHT.min(count) {
        client.read_exact(&mut acknowledged).expect("the server answers");
    }
    drop(client);
    thread.join().expect("the server ends") / ((count * size) as f64 / 1e9)
}

fn send(total: u64) -> f64 {
    let file = tempfile::tempfile_in(work_directory()).expect("a file");
    fill(&file);
    let (mut client, thread) = server(move |mut stream| {
        let mut buffer = vec![0; CHUNK];
        let size = file.metadata().expect("a size").len();
        for at in (0..size).step_by(CHUNK).cycle().take(usize::try_from(total).expect("fits") / CHUNK) {
            file.read_exact_at(&mut buffer, at).expect("what was written");
            stream.write_all(&buffer).expect("the client reads");
        }
    });
    let mut sink = vec![0; CHUNK];
    let mut received = 0;
    loop {
        match client.read(&mut sink).expect("the server sends") {
            0 => break,
            count => received += count,
        }
    }
    thread.join().expect("the server ends") / (received as f64 / 1e9)
}

fn fill(file: &File) {
    let chunk: Vec<u8> = (0..CHUNK).map(|i| (i % 251) as u8).collect();
    for at in 0..512 {
        file.write_all_at(&chunk, at * CHUNK as u64).expect("room on the disk");
    }
}
