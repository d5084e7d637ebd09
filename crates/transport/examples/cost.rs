//! What the transport costs: CPU seconds per GB of a server process, beside the plainest loop that does the same.
//!
//! `cost` measures everything and prints a table. `cost serve KIND PORT BYTES` is one server: `null` reads frames and drops
//! them, `write` checksums them and writes them to a file, `send` answers with a MiB of a file. `floor-null`, `floor-write`
//! and `floor-send` are the plain loops, with one buffer that is reused. `cost measure KIND BYTES TOTAL` measures one.
#![allow(clippy::print_stdout, reason = "a table on the terminal is its purpose")]

use bytes::Bytes;
use ottla_transport::server::{
    Body, ConnectionInfo, Listener, ListenerOptions, Reply, ReplyFrame, Server, ServerOptions, Service,
    Splice,
};
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

const REPLY: [u8; 64] = [7; 64];
const CHUNK_BYTES: usize = 1 << 20;
/// The file that is sent, over and over.
const FILE_CHUNKS: u64 = 256;
/// Requests that the driver keeps in flight, as clients do.
const WINDOW: u64 = 5;
const ROUNDS: usize = 3;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", kind, port, bytes] => serve(kind, number(port), number(bytes)),
        ["measure", kind, bytes, total] => {
            println!("{:.3}", measure(kind, number(bytes), number(total))?);
            Ok(())
        }
        [] => measure_all(),
        _ => Err(io::Error::other("usage: cost [serve KIND PORT BYTES | measure KIND BYTES TOTAL]")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("a number")
}

fn serve(kind: &str, port: u16, frame_bytes: usize) -> io::Result<()> {
    let file = scratch_file(kind.ends_with("send"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match kind {
        "floor-null" => floor_receive(address, frame_bytes, None),
        "floor-write" => floor_receive(address, frame_bytes, Some(&file)),
        "floor-send" => floor_send(address, &file),
        "null" => serve_transport(address, Work::Null),
        "write" => serve_transport(address, Work::Write(file, AtomicU64::new(0))),
        "send" => serve_transport(address, Work::Send(Arc::new(file), AtomicU64::new(0))),
        _ => Err(io::Error::other("unknown kind")),
    }
}

/// A file without a name, filled if it is to be sent.
fn scratch_file(filled: bool) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("ottla-cost-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    if filled {
        let chunk: Vec<u8> = (0..CHUNK_BYTES).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect();
        for _ in 0..FILE_CHUNKS {
            file.write_all(&chunk)?;
        }
    }
    Ok(file)
}

fn floor_receive(address: SocketAddr, frame_bytes: usize, file: Option<&File>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("up");
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; frame_bytes + 4];
    let mut reply = (REPLY.len() as u32).to_be_bytes().to_vec();
    reply.extend(REPLY);
    let mut at = 0;
    while stream.read_exact(&mut buffer).is_ok() {
        if let Some(file) = file {
            std::hint::black_box(crc32c::crc32c(&buffer[4..]));
            file.write_all_at(&buffer[4..], at)?;
            at += frame_bytes as u64;
        }
        stream.write_all(&reply)?;
    }
    Ok(())
}

/// Answers each request with the length prefix, `REPLY` and a MiB of the file, as the transport does.
fn floor_send(address: SocketAddr, file: &File) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("up");
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; 4 + REPLY.len() + CHUNK_BYTES];
    let length = (buffer.len() - 4) as u32;
    buffer[..4].copy_from_slice(&length.to_be_bytes());
    let mut request = [0; 20];
    let mut chunk = 0;
    while stream.read_exact(&mut request).is_ok() {
        file.read_exact_at(&mut buffer[4 + REPLY.len()..], chunk % FILE_CHUNKS * CHUNK_BYTES as u64)?;
        stream.write_all(&buffer)?;
        chunk += 1;
    }
    Ok(())
}

enum Work {
    Null,
    Write(File, AtomicU64),
    Send(Arc<File>, AtomicU64),
}

impl Service for Work {
    fn call(&self, _connection: &Arc<ConnectionInfo>, frame: Bytes) -> Reply {
        match self {
            Work::Null => {}
            Work::Write(file, end) => {
                std::hint::black_box(crc32c::crc32c(&frame));
                let at = end.fetch_add(frame.len() as u64, Ordering::Relaxed);
                if file.write_all_at(&frame, at).is_err() {
                    return Reply::Close("cannot write".into());
                }
            }
            Work::Send(file, next) => {
                let chunk = next.fetch_add(1, Ordering::Relaxed) % FILE_CHUNKS;
                let body = Box::new(Range { file: file.clone(), from: chunk * CHUNK_BYTES as u64 });
                let splice = Splice { position: REPLY.len(), body };
                return Reply::Ready(ReplyFrame::spliced(Bytes::from_static(&REPLY), vec![splice]));
            }
        }
        Reply::bytes(Bytes::from_static(&REPLY))
    }
}

struct Range {
    file: Arc<File>,
    from: u64,
}

impl Body for Range {
    fn len_bytes(&self) -> u64 {
        CHUNK_BYTES as u64
    }

    fn read_at_nowait(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        Ok(rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buffer)], self.from + at, flags)?)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, self.from + at)
    }
}

fn serve_transport(address: SocketAddr, work: Work) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::bind(&ListenerOptions::new("COST", address)).map_err(io::Error::other)?;
        let server = Server::start(
            ServerOptions::default(),
            vec![listener],
            Arc::new(work),
            CancellationToken::new(),
        )?;
        println!("up");
        server.join().await;
        Ok(())
    })
}

fn measure_all() -> io::Result<()> {
    println!(
        "CPU seconds of the server per GB, best of {ROUNDS}; {WINDOW} requests in flight on one connection"
    );
    println!("{:<28} {:>9} {:>9} {:>7}", "", "transport", "floor", "ratio");
    let gigabyte = 1_000_000_000;
    for (name, kind, frame_bytes, total) in [
        ("receive, 128 KiB", "null", 128 << 10, 4 * gigabyte),
        ("receive, 16 KiB", "null", 16 << 10, 2 * gigabyte),
        ("receive, 1 KiB", "null", 1 << 10, gigabyte / 4),
        ("receive and write, 128 KiB", "write", 128 << 10, 3 * gigabyte),
        ("receive and write, 16 KiB", "write", 16 << 10, 2 * gigabyte),
        ("send, 1 MiB", "send", 16, 4 * gigabyte),
    ] {
        let (mut transport, mut floor) = (f64::MAX, f64::MAX);
        // Interleaved, so that both meet the same machine.
        for _ in 0..ROUNDS {
            transport = transport.min(measure(kind, frame_bytes, total)?);
            floor = floor.min(measure(&format!("floor-{kind}"), frame_bytes, total)?);
        }
        println!("{name:<28} {transport:>9.3} {floor:>9.3} {:>6.2}x", transport / floor);
    }
    Ok(())
}

/// CPU seconds per GB of a fresh server of this kind.
fn measure(kind: &str, frame_bytes: usize, total: u64) -> io::Result<f64> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", kind, &port.to_string(), &frame_bytes.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    server.stdout.as_mut().expect("piped").read_exact(&mut [0; 3])?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    let reply_bytes = 4 + REPLY.len() + if kind.ends_with("send") { CHUNK_BYTES } else { 0 };
    let requests = total / frame_bytes.max(reply_bytes) as u64;
    let before = cpu_seconds(&server)?;
    drive(stream, frame_bytes, reply_bytes, requests)?;
    let spent = cpu_seconds(&server)? - before;
    server.kill()?;
    server.wait()?;
    Ok(spent / (requests * frame_bytes.max(reply_bytes) as u64) as f64 * 1e9)
}

fn drive(mut stream: TcpStream, frame_bytes: usize, reply_bytes: usize, requests: u64) -> io::Result<()> {
    let mut frame = vec![5; frame_bytes + 4];
    frame[..4].copy_from_slice(&(frame_bytes as u32).to_be_bytes());
    let mut replies = vec![0; reply_bytes.max(1 << 20)];
    let (mut sent, mut received) = (0, 0);
    let mut received_bytes = 0;
    while received < requests {
        while sent < requests && sent - received < WINDOW {
            stream.write_all(&frame)?;
            sent += 1;
        }
        received_bytes += stream.read(&mut replies)?;
        received += (received_bytes / reply_bytes) as u64;
        received_bytes %= reply_bytes;
    }
    Ok(())
}

fn cpu_seconds(process: &Child) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().expect("a process has a name").split_whitespace().collect();
    let ticks: u64 = number::<u64>(fields[11]) + number::<u64>(fields[12]);
    // Linux counts in hundredths of a second in this file, whatever the kernel's own tick.
    Ok(ticks as f64 / 100.0)
}
