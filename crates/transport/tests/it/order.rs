//! Replies leave in the order of their requests; what waits does not hold up what follows.

use crate::support::{echo, serve, until};
use bytes::Bytes;
use ottla_transport::server::{Answer, Reply, ReplyFrame, ServerOptions};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Futures that the test completes, by the frame that asked.
type Gates = Arc<Mutex<HashMap<Bytes, oneshot::Sender<()>>>>;

/// The reply `frame`, once the gate of that name opens.
fn gated(gates: &Gates, frame: Bytes) -> impl Future<Output = Answer> + Send + 'static {
    let (open, opened) = oneshot::channel();
    gates.lock().unwrap().insert(frame.clone(), open);
    async move {
        opened.await.expect("the test opens it");
        Answer::Frame(ReplyFrame::new(frame))
    }
}

fn open(gates: &Gates, name: &'static str) {
    let gate = gates.lock().unwrap().remove(name.as_bytes());
    gate.expect("the request arrived").send(()).expect("the connection lives");
}

#[tokio::test]
async fn later_requests_are_handled_while_a_reply_waits_and_replies_keep_their_order() {
    let gates = Gates::default();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let server = serve(ServerOptions::default(), {
        let (gates, handled) = (gates.clone(), handled.clone());
        move |_connection, frame| {
            handled.lock().unwrap().push(frame.clone());
            match &frame[..1] {
                b"w" => Reply::later(gated(&gates, frame)),
                b"n" => Reply::None,
                _ => Reply::bytes(frame),
            }
        }
    });
    let mut connection = server.connect().await;
    for name in ["w1", "ready", "w2", "none", "w3", "last"] {
        connection.send_frame(name.as_bytes()).await.unwrap();
    }
    until("all six are handled", || handled.lock().unwrap().len() == 6).await;
    for name in ["w3", "w2", "w1"] {
        assert_eq!(server.stats.bytes_out(), 0, "nothing leaves before the first");
        open(&gates, name);
    }
    for name in ["w1", "ready", "w2", "w3", "last"] {
        assert_eq!(connection.receive().await.unwrap().as_deref(), Some(name.as_bytes()));
    }
    assert_eq!(server.stats.requests_total(), 6);
}

#[tokio::test]
async fn a_future_in_the_middle_is_polled_before_its_turn() {
    let gates = Gates::default();
    let steps = Arc::new(AtomicUsize::new(0));
    let server = serve(ServerOptions::default(), {
        let (gates, steps) = (gates.clone(), steps.clone());
        move |_connection, frame| {
            let (first, steps) = (gated(&gates, frame.clone()), steps.clone());
            Reply::later(async move {
                let answer = first.await;
                steps.fetch_add(1, Ordering::SeqCst);
                answer
            })
        }
    });
    let mut connection = server.connect().await;
    connection.send_frame(b"w1").await.unwrap();
    connection.send_frame(b"w2").await.unwrap();
    until("both arrived", || gates.lock().unwrap().len() == 2).await;
    open(&gates, "w2");
    until("the second went on", || steps.load(Ordering::SeqCst) == 1).await;
    open(&gates, "w1");
    assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"w1"[..]));
    assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"w2"[..]));
}

#[tokio::test]
async fn a_holding_reply_keeps_the_next_request_from_being_handled() {
    let gates = Gates::default();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let server = serve(ServerOptions::default(), {
        let (gates, handled) = (gates.clone(), handled.clone());
        move |_connection, frame| {
            handled.lock().unwrap().push(frame.clone());
            if &frame[..] == b"hold" { Reply::hold(gated(&gates, frame)) } else { Reply::bytes(frame) }
        }
    });
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    connection.send_bytes(b"\0\0\0\x04hold\0\0\0\x04next").await.unwrap();
    until("the first is handled", || !handled.lock().unwrap().is_empty()).await;
    other.send_frame(b"another connection's").await.unwrap();
    assert!(other.receive().await.unwrap().is_some());
    assert_eq!(handled.lock().unwrap().len(), 2, "next was read with hold and is not handled");
    open(&gates, "hold");
    assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"hold"[..]));
    assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"next"[..]));
}

#[tokio::test]
async fn a_connection_is_not_read_while_too_many_replies_wait() {
    let gates = Gates::default();
    let options = ServerOptions { in_flight_requests_max: 3, ..ServerOptions::default() };
    let server = serve(options, {
        let gates = gates.clone();
        move |_connection, frame| Reply::later(gated(&gates, frame))
    });
    let mut connection = server.connect().await;
    for name in ["w1", "w2", "w3", "w4", "w5"] {
        connection.send_frame(name.as_bytes()).await.unwrap();
    }
    until("three are handled", || gates.lock().unwrap().len() == 3).await;
    server_turn(&server).await;
    assert_eq!(gates.lock().unwrap().len(), 3);
    open(&gates, "w2");
    server_turn(&server).await;
    assert_eq!(server.stats.requests_total(), 3, "the second waits for the first");
    open(&gates, "w1");
    until("two more are handled", || server.stats.requests_total() == 5).await;
    ["w3", "w4", "w5"].into_iter().for_each(|name| open(&gates, name));
    for name in ["w1", "w2", "w3", "w4", "w5"] {
        assert_eq!(connection.receive().await.unwrap().as_deref(), Some(name.as_bytes()));
    }
}

/// Lets the server's tasks run: they share this test's one thread.
async fn server_turn(server: &crate::support::TestServer) {
    let before = server.stats.connections_total();
    drop(server.connect().await);
    until("another connection came and went", || {
        server.stats.connections_total() > before && server.stats.connections_now() == 1
    })
    .await;
}

#[tokio::test]
async fn a_closed_peer_drops_the_futures_of_its_replies() {
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let server = serve(ServerOptions::default(), {
        let alive = alive.clone();
        move |_connection, _frame| {
            alive.fetch_add(1, Ordering::SeqCst);
            let held = Alive(alive.clone());
            Reply::later(async move {
                let _held = held;
                std::future::pending().await
            })
        }
    });
    let mut connection = server.connect().await;
    connection.send_frame(b"long poll").await.unwrap();
    connection.send_frame(b"long poll").await.unwrap();
    until("both wait", || alive.load(Ordering::SeqCst) == 2).await;
    assert_eq!(server.open.load(Ordering::SeqCst), 1);
    drop(connection);
    until("the futures are gone", || alive.load(Ordering::SeqCst) == 0).await;
    until("the service heard", || server.open.load(Ordering::SeqCst) == 0).await;
    assert_eq!(server.stats.connections_now(), 0);
}

#[tokio::test]
async fn replies_before_a_close_leave_and_requests_after_it_are_not_handled() {
    let handled = Arc::new(AtomicUsize::new(0));
    let gates = Gates::default();
    let server = serve(ServerOptions::default(), {
        let (gates, handled) = (gates.clone(), handled.clone());
        move |_connection, frame| {
            handled.fetch_add(1, Ordering::SeqCst);
            match &frame[..1] {
                b"w" => Reply::later(gated(&gates, frame)),
                b"c" => Reply::Close("no more".into()),
                _ => Reply::bytes(frame),
            }
        }
    });
    let mut connection = server.connect().await;
    connection.send_bytes(b"\0\0\0\x02w1\0\0\0\x01c\0\0\0\x01x").await.unwrap();
    until("the first two are handled", || handled.load(Ordering::SeqCst) == 2).await;
    open(&gates, "w1");
    assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"w1"[..]));
    assert_eq!(connection.receive().await.unwrap(), None);
    assert_eq!(handled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_peer_that_has_finished_sending_still_gets_what_is_ready() {
    let server = echo(ServerOptions::default());
    let mut connection = server.connect().await;
    connection.send_frame(b"one").await.unwrap();
    connection.send_frame(b"two").await.unwrap();
    connection.finish_sending().await.unwrap();
    assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(connection.receive().await.unwrap(), None);
}

#[tokio::test]
async fn a_thousand_pipelined_frames_of_many_sizes_come_back_in_order() {
    let server = echo(ServerOptions::default());
    let connection = server.connect().await;
    let (mut read, mut write) = connection.into_stream().into_split();
    let sizes: Vec<usize> =
        (0..1000).map(|i| [0, 1, 60, 4_000, 8_188, 8_189, 17_000, 131_072][i % 8] + i % 5).collect();
    let sender = tokio::spawn({
        let sizes = sizes.clone();
        async move {
            use tokio::io::AsyncWriteExt;
            for (index, size) in sizes.into_iter().enumerate() {
                write.write_all(&u32::try_from(size).unwrap().to_be_bytes()).await.unwrap();
                write.write_all(&vec![index as u8; size]).await.unwrap();
            }
            write
        }
    });
    for (index, size) in sizes.into_iter().enumerate() {
        use tokio::io::AsyncReadExt;
        assert_eq!(read.read_u32().await.unwrap() as usize, size, "frame {index}");
        let mut frame = vec![0; size];
        read.read_exact(&mut frame).await.unwrap();
        assert!(frame.iter().all(|byte| *byte == index as u8), "frame {index}");
    }
    drop(sender.await.unwrap());
    until("all memory is given back", || server.stats.request_bytes_now() == 0).await;
    assert_eq!(server.stats.bytes_in(), server.stats.bytes_out());
}
