//! Admission, memory, idle time, listeners.

use crate::support::{echo, serve, until};
use bytes::Bytes;
use ottla_transport::client::RawConnection;
use ottla_transport::server::{
    Answer, BindError, ConnectionLimits, Listener, ListenerOptions, Reply, ReplyFrame, ServerOptions,
};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

async fn connect_from(ip: [u8; 4], to: SocketAddr) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((ip, 0))).unwrap();
    socket.connect(to).await.unwrap()
}

fn limits(limits: ConnectionLimits) -> ServerOptions {
    ServerOptions { connections: limits, ..ServerOptions::default() }
}

#[tokio::test]
async fn connections_beyond_the_total_are_refused_until_one_goes() {
    let server = echo(limits(ConnectionLimits { total_max: Some(2), ..ConnectionLimits::default() }));
    let first = server.connect().await;
    let _second = server.connect().await;
    until("two are open", || server.stats.connections_now() == 2).await;
    assert_eq!(server.connect().await.receive().await.unwrap(), None);
    assert_eq!(server.stats.connections_rejected(), 1);
    drop(first);
    until("one has gone", || server.stats.connections_now() == 1).await;
    server.assert_echoes().await;
    server
        .server
        .set_connection_limits(ConnectionLimits { total_max: Some(1), ..ConnectionLimits::default() });
    until("one has gone", || server.stats.connections_now() == 1).await;
    assert_eq!(server.connect().await.receive().await.unwrap(), None, "the limit has changed");
}

#[tokio::test]
async fn connections_of_one_address_are_limited_with_exceptions() {
    let per_ip_overrides =
        HashMap::from([(IpAddr::from([127, 0, 0, 2]), 2), (IpAddr::from([127, 0, 0, 3]), 0)]);
    let per_ip = ConnectionLimits { per_ip_max: Some(1), per_ip_overrides, ..ConnectionLimits::default() };
    let server = echo(limits(per_ip));
    let mut kept = Vec::new();
    for (ip, admitted) in [([127, 0, 0, 1], 1), ([127, 0, 0, 2], 2), ([127, 0, 0, 3], 0), ([127, 0, 0, 4], 1)]
    {
        let before = (server.stats.connections_total(), server.stats.connections_rejected());
        for _ in 0..3 {
            kept.push(connect_from(ip, server.address).await);
        }
        until("all three are decided", || {
            server.stats.connections_total() + server.stats.connections_rejected() == before.0 + before.1 + 3
        })
        .await;
        assert_eq!(server.stats.connections_total() - before.0, admitted, "{ip:?}");
    }
    drop(kept);
    until("all have gone", || server.stats.connections_now() == 0).await;
    server.assert_echoes().await;
}

#[tokio::test]
async fn connections_are_created_no_faster_than_the_rate() {
    let server =
        echo(limits(ConnectionLimits { creation_rate_max: Some(20), ..ConnectionLimits::default() }));
    let started = Instant::now();
    for _ in 0..9 {
        server.assert_echoes().await;
    }
    // Two may come at once (a tenth of a second of the rate), each of the others takes its 50 ms.
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!(server.stats.connections_rejected(), 0);
}

#[tokio::test]
async fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let options = ServerOptions { idle_max: Some(Duration::from_millis(100)), ..ServerOptions::default() };
    let gate = Arc::new(Mutex::new(None));
    let server = serve(options, {
        let gate = gate.clone();
        move |_connection, frame| {
            let (open, opened) = tokio::sync::oneshot::channel::<Bytes>();
            *gate.lock().unwrap() = Some(open);
            Reply::later(async move {
                let opened = opened.await;
                drop(frame);
                opened.map_or(Answer::None, |bytes| Answer::Frame(ReplyFrame::new(bytes)))
            })
        }
    });
    let (mut idle, mut waiting) = (server.connect().await, server.connect().await);
    waiting.send_frame(b"long poll").await.unwrap();
    assert_eq!(idle.receive().await.unwrap(), None);
    assert_eq!(server.stats.connections_now(), 1);
    let open = gate.lock().unwrap().take().unwrap();
    open.send(Bytes::from_static(b"at last")).unwrap();
    assert_eq!(waiting.receive().await.unwrap().as_deref(), Some(&b"at last"[..]));
    assert_eq!(waiting.receive().await.unwrap(), None, "now it is idle");
}

#[tokio::test]
async fn nothing_is_read_while_requests_hold_all_memory() {
    let options = ServerOptions { queued_request_bytes_max: Some(50_000), ..ServerOptions::default() };
    let held = Arc::new(Mutex::new(Vec::new()));
    let server = serve(options, {
        let held = held.clone();
        move |_connection, frame| {
            if frame.len() > 10_000 {
                held.lock().unwrap().push(frame);
            }
            Reply::bytes(Bytes::from_static(b"done"))
        }
    });
    let mut large = server.connect().await;
    for _ in 0..2 {
        large.send_frame(&[0; 30_000]).await.unwrap();
        assert!(large.receive().await.unwrap().is_some());
    }
    assert_eq!(server.stats.request_bytes_now(), 60_000);
    let mut small = server.connect().await;
    small.send_frame(b"waits").await.unwrap();
    until("it is connected", || server.stats.connections_now() == 2).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.stats.requests_total(), 2);
    held.lock().unwrap().clear();
    assert!(small.receive().await.unwrap().is_some());
}

#[tokio::test]
async fn halves_of_frames_that_hold_all_memory_are_completed_one_by_one() {
    let options = ServerOptions { queued_request_bytes_max: Some(50_000), ..ServerOptions::default() };
    let server = serve(options, |_connection, _frame| Reply::bytes(Bytes::from_static(b"done")));
    let mut connections = Vec::new();
    for index in 1..=5 {
        let mut connection = server.connect().await;
        connection.send_bytes(&200_000_u32.to_be_bytes()).await.unwrap();
        connection.send_bytes(&vec![1; 15_000]).await.unwrap();
        until("its half is charged", || server.stats.request_bytes_now() >= 15_000 * index.min(3)).await;
        connections.push(connection);
    }
    for connection in &mut connections {
        connection.send_bytes(&vec![1; 185_000]).await.unwrap();
    }
    for connection in &mut connections {
        assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"done"[..]));
    }
    until("all is given back", || server.stats.request_bytes_now() == 0).await;
}

#[tokio::test]
async fn a_second_listener_on_a_port_is_refused_and_a_closed_one_is_free_at_once() {
    let any = ListenerOptions::new("PLAINTEXT", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let first = Listener::bind(&any).unwrap();
    let same = ListenerOptions { address: first.local_address(), ..any };
    let refused = Listener::bind(&same).unwrap_err();
    assert!(matches!(refused, BindError::InUse { .. }));
    let expected =
        format!("listener PLAINTEXT: {} is already in use by another process", first.local_address());
    assert_eq!(refused.to_string(), expected);
    drop(first);
    Listener::bind(&same).unwrap();
}

#[test]
fn connections_beyond_the_backlog_wait_outside() {
    let connected = |backlog| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener =
            Listener::bind(&ListenerOptions { backlog, ..ListenerOptions::new("PLAINTEXT", address) });
        let listener = listener.unwrap();
        let connect = |_| {
            std::net::TcpStream::connect_timeout(&listener.local_address(), Duration::from_millis(200)).ok()
        };
        // Nobody accepts: what connects stands in the backlog.
        let streams: Vec<_> = (0..6).map_while(connect).collect();
        streams.len()
    };
    assert!(connected(1) < 6);
    assert_eq!(connected(50), 6);
}

#[tokio::test]
async fn socket_buffers_are_set_when_asked_for() {
    let options = ListenerOptions {
        send_buffer_bytes: Some(20_000),
        receive_buffer_bytes: Some(30_000),
        ..ListenerOptions::new("PLAINTEXT", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    };
    let listener = Listener::bind(&options).unwrap();
    let _connection = RawConnection::connect(listener.local_address()).await.unwrap();
    let socket = listener.into_socket();
    // Linux doubles what is asked for.
    assert_eq!(socket2::SockRef::from(&socket).send_buffer_size().unwrap(), 40_000);
    assert_eq!(socket2::SockRef::from(&socket).recv_buffer_size().unwrap(), 60_000);
}
