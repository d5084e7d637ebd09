//! A proxy between real sockets: not a byte changes but addresses, whatever passes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use ottla_dump::filter::Filter;
use ottla_dump::printer::Format;
use ottla_dump::proxy::{Proxy, ProxyOptions, show};
use ottla_dump::session::Sessions;
use ottla_protocol::generated::fetch::{FetchResponse, NodeEndpoint};
use ottla_protocol::generated::find_coordinator::FindCoordinatorResponse;
use ottla_protocol::generated::metadata::{MetadataResponse, MetadataResponseBroker};
use ottla_protocol::wire::Message;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::{Kept, printer, request};

const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy that runs, and what it shows.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    kept: Kept,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(upstream: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        let (printer, kept) = printer(Format::Json);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let options = ProxyOptions {
            listen: "127.0.0.1:0".to_owned(),
            upstream: upstream.to_string(),
            advertised_host: None,
        };
        let (proxy, events) = runtime.block_on(Proxy::bind(options, stop.clone())).unwrap();
        let address = proxy.local_addr().unwrap();
        let sessions = Sessions::new(Filter::default(), false);
        let shown = std::thread::spawn(move || show(events, sessions, printer, None).unwrap());
        let served = std::thread::spawn(move || runtime.block_on(proxy.run()));
        Self { address, stop, kept, threads: vec![served, shown] }
    }

    /// Stops it; gives all that it has shown.
    fn stop(self) -> Vec<Value> {
        self.stop.cancel();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.kept.rows()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_frame(stream: &mut TcpStream) -> Bytes {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).unwrap();
    Bytes::from(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) {
    stream.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(frame).unwrap();
}

/// A broker that answers each frame as `answer` says, on one connection.
fn broker(answer: impl Fn(Bytes) -> Option<Bytes> + Send + 'static) -> (SocketAddr, JoinHandle<Vec<Bytes>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut requests = Vec::new();
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut frame).unwrap();
            requests.push(Bytes::from(frame));
            if let Some(reply) = answer(requests.last().unwrap().clone()) {
                write_frame(&mut stream, &reply);
            }
        }
        requests
    });
    (address, thread)
}

fn with_header(request: &Bytes, flexible: bool, body: &[u8]) -> Option<Bytes> {
    let tags = flexible.then_some(0).into_iter();
    Some(request[4..8].iter().copied().chain(tags).chain(body.iter().copied()).collect())
}

fn metadata(brokers: &[(&str, u16)]) -> MetadataResponse {
    let mut id = 0;
    let one = |(host, port): &(&str, u16)| {
        id += 1;
        let (host, port) = ((*host).into(), i32::from(*port));
        MetadataResponseBroker { node_id: id, host, port, ..MetadataResponseBroker::default() }
    };
    let brokers = brokers.iter().map(one).collect();
    MetadataResponse { brokers, cluster_id: Some("c".into()), ..MetadataResponse::default() }
}

#[test]
fn advertised_addresses_lead_to_the_proxy_and_everything_else_stays() {
    for (version, flexible) in [(1, false), (9, true), (12, true)] {
        let (second, second_thread) = broker(|request| with_header(&request, false, b"second"));
        let own = std::sync::Arc::new(std::sync::OnceLock::<SocketAddr>::new());
        let known = own.clone();
        let (address, thread) = broker(move |request| {
            let own = known.get().unwrap();
            let brokers = [("127.0.0.1", own.port()), ("localhost", second.port())];
            with_header(&request, flexible, &metadata(&brokers).encode(version).unwrap())
        });
        own.set(address).unwrap();
        let proxy = Running::start(address);
        let mut client = connect(proxy.address);
        let body: &[u8] = if version == 1 {
            &[255, 255, 255, 255]
        } else {
            &[0, 1, 0, 0, 0][..if version > 10 { 4 } else { 5 }]
        };
        let sent = request(3, version, 77, flexible, body);
        write_frame(&mut client, &sent);
        let reply = read_frame(&mut client);
        let head = 4 + usize::from(flexible);
        let got = MetadataResponse::decode(reply.slice(head..), version).unwrap();
        let ports: Vec<u16> = got.brokers.iter().map(|broker| broker.port as u16).collect();
        assert_eq!(ports[0], proxy.address.port());
        assert_ne!(ports[1], second.port());
        let want = metadata(&[("127.0.0.1", ports[0]), ("127.0.0.1", ports[1])]);
        assert_eq!(reply.slice(head..), want.encode(version).unwrap(), "all but addresses is as it was");
        // The second broker is behind the port that was told.
        let mut other = connect(SocketAddr::from(([127, 0, 0, 1], ports[1])));
        write_frame(&mut other, &request(18, 0, 5, false, &[]));
        assert_eq!(read_frame(&mut other)[..], *b"\0\0\0\x05second");
        drop((client, other));
        assert_eq!(thread.join().unwrap(), [sent]);
        assert_eq!(second_thread.join().unwrap().len(), 1);
        let rows = proxy.stop();
        let reply =
            rows.iter().find(|row| row["api"] == "Metadata" && row["direction"] == "response").unwrap();
        assert_eq!(reply["body"]["Brokers"][1]["Host"], "localhost", "what the broker sent is shown");
        assert!(reply["latency_us"].is_u64());
    }
}

#[test]
fn addresses_in_tagged_fields_and_single_ones_are_rewritten_too() {
    let host = "a-rather-long-name-of-a-broker.".repeat(6);
    let (name, fetch_name) = (host.clone(), host.clone());
    let (address, thread) = broker(move |request| match request[1] {
        1 => {
            let (host, port) = (name.as_str().into(), 9);
            let endpoint = NodeEndpoint { node_id: 3, host, port, ..NodeEndpoint::default() };
            let response = FetchResponse { node_endpoints: vec![endpoint], ..FetchResponse::default() };
            with_header(&request, true, &response.encode(16).unwrap())
        }
        _ => {
            let (host, port) = (name.as_str().into(), 9);
            let response = FindCoordinatorResponse { host, port, ..FindCoordinatorResponse::default() };
            with_header(&request, false, &response.encode(1).unwrap())
        }
    });
    let proxy = Running::start(address);
    let mut client = connect(proxy.address);
    write_frame(&mut client, &request(1, 16, 1, true, &[]));
    let fetched = FetchResponse::decode(read_frame(&mut client).slice(5..), 16).unwrap();
    let endpoint = &fetched.node_endpoints[0];
    assert_eq!((&*endpoint.host, endpoint.node_id), ("127.0.0.1", 3));
    write_frame(&mut client, &request(10, 1, 2, false, &[0, 1, b'g', 0]));
    let found = FindCoordinatorResponse::decode(read_frame(&mut client).slice(4..), 1).unwrap();
    assert_eq!((&*found.host, found.port), ("127.0.0.1", endpoint.port), "the same broker, the same port");
    drop(client);
    thread.join().unwrap();
    assert_eq!(proxy.stop().iter().filter(|row| row.to_string().contains(&fetch_name)).count(), 2);
}

#[test]
fn what_is_not_kafka_passes_unchanged() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let echo = std::thread::spawn({
        let address = listener.local_addr().unwrap();
        let proxy = Running::start(address);
        move || {
            let mut client = connect(proxy.address);
            // The begin of a TLS handshake, and enough behind it to be cut into many reads.
            let sent: Vec<u8> =
                [0x90, 0x03, 0x01, 0x02, 0x00].into_iter().chain((0..300_000u32).map(|i| i as u8)).collect();
            let reader = std::thread::spawn({
                let mut client = client.try_clone().unwrap();
                move || {
                    let mut got = Vec::new();
                    client.read_to_end(&mut got).unwrap();
                    got
                }
            });
            client.write_all(&sent).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(reader.join().unwrap(), sent);
            proxy.stop()
        }
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut writer = stream.try_clone().unwrap();
    std::io::copy(&mut stream, &mut writer).unwrap();
    drop((stream, writer));
    let rows = echo.join().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row["error"].as_str().unwrap().contains("negative length")), "{rows:?}");
}

#[test]
fn frames_of_every_size_and_cut_arrive_as_they_were_sent() {
    let (address, thread) = broker(|request| Some(request.slice(4..)));
    let proxy = Running::start(address);
    let mut client = connect(proxy.address);
    let mut sent = Vec::new();
    for (id, size) in [0, 1, 100, 65_000, 70_000, 3_000_000].into_iter().enumerate() {
        let value: Vec<u8> = (0..size).map(|i: usize| (i * 31) as u8).collect();
        // A version that nobody knows: the proxy does not care.
        let frame = request(3, 99, id as i32, true, &value);
        let framed = [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat();
        let (first, rest) = framed.split_at(framed.len() / 3);
        client.write_all(first).unwrap();
        client.write_all(rest).unwrap();
        assert_eq!(read_frame(&mut client), frame.slice(4..));
        sent.push(frame);
    }
    drop(client);
    assert_eq!(thread.join().unwrap(), sent);
    let rows = proxy.stop();
    assert_eq!(rows.len(), 2 * sent.len());
    assert!(rows.iter().all(|row| row["error"].as_str().unwrap().contains("versions")));
}
