//! An orderly stop: nothing new, replies that wait are given, and an end to it.

use crate::support::{echo, serve, until};
use bytes::Bytes;
use ottla_transport::client::RawConnection;
use ottla_transport::server::{Answer, Reply, ReplyFrame, ServerOptions};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test]
async fn a_stop_waits_for_replies_and_refuses_what_is_new() {
    let gate = Arc::new(Mutex::new(None));
    let server = serve(ServerOptions { drain_max: Duration::from_secs(60), ..ServerOptions::default() }, {
        let gate = gate.clone();
        move |_connection, frame| {
            if &frame[..] != b"wait" {
                return Reply::bytes(frame);
            }
            let (open, opened) = tokio::sync::oneshot::channel::<()>();
            *gate.lock().unwrap() = Some(open);
            Reply::later(async move {
                opened.await.expect("the test opens it");
                Answer::Frame(ReplyFrame::new(Bytes::from_static(b"given")))
            })
        }
    });
    let (mut waiting, mut idle, mut half) =
        (server.connect().await, server.connect().await, server.connect().await);
    waiting.send_frame(b"wait").await.unwrap();
    waiting.send_frame(b"next").await.unwrap();
    half.send_bytes(b"\0\0\0\x09half").await.unwrap();
    until("both are handled", || server.stats.requests_total() == 2).await;
    server.shutdown.cancel();
    assert_eq!(idle.receive().await.unwrap(), None);
    assert_eq!(half.receive().await.unwrap(), None);
    assert!(RawConnection::connect(server.address).await.is_err(), "the port is closed");
    waiting.send_frame(b"too late").await.unwrap();
    let open = gate.lock().unwrap().take().unwrap();
    open.send(()).unwrap();
    assert_eq!(waiting.receive().await.unwrap().as_deref(), Some(&b"given"[..]));
    assert_eq!(waiting.receive().await.unwrap().as_deref(), Some(&b"next"[..]));
    assert_eq!(waiting.receive().await.unwrap(), None);
    server.server.join().await;
    assert_eq!(server.stats.requests_total(), 2);
    assert_eq!(server.stats.connections_now(), 0);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let options = ServerOptions { drain_max: Duration::from_millis(50), ..ServerOptions::default() };
    let server = serve(options, |_connection, _frame| Reply::later(std::future::pending()));
    let mut connection = server.connect().await;
    connection.send_frame(b"x").await.unwrap();
    until("it is handled", || server.stats.requests_total() == 1).await;
    server.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), server.server.join()).await.expect("the stop ends");
    assert_eq!(connection.receive().await.unwrap(), None);
}

#[tokio::test]
async fn a_stop_ends_a_client_that_does_not_read() {
    let options = ServerOptions { drain_max: Duration::from_millis(50), ..ServerOptions::default() };
    let server = serve(options, |_connection, _frame| Reply::bytes(vec![0; 100_000_000]));
    let mut connection = server.connect().await;
    connection.send_frame(b"x").await.unwrap();
    until("the reply has begun", || server.stats.bytes_out() > 0).await;
    server.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), server.server.join()).await.expect("the stop ends");
    drop(connection);
}

#[tokio::test]
async fn a_port_is_free_after_a_stop() {
    let server = echo(ServerOptions::default());
    server.assert_echoes().await;
    server.shutdown.cancel();
    server.server.join().await;
    let again = ottla_transport::server::ListenerOptions::new("AGAIN", server.address);
    ottla_transport::server::Listener::bind(&again).unwrap();
}
