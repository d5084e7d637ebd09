//! What no client should send closes its connection, and nobody else notices.

use crate::support::{echo, serve, until};
use ottla_transport::server::{Reply, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn limited() -> ServerOptions {
    ServerOptions { request_bytes_max: 1_000_000, ..ServerOptions::default() }
}

#[tokio::test]
async fn negative_and_oversized_lengths_close_the_connection_after_earlier_replies() {
    let server = echo(limited());
    for prefix in [-1_i32, i32::MIN, 1_000_001, i32::MAX, i32::from_be_bytes(*b"GET ")] {
        let mut connection = server.connect().await;
        connection.send_frame(b"before").await.unwrap();
        connection.send_bytes(&prefix.to_be_bytes()).await.unwrap();
        assert_eq!(connection.receive().await.unwrap().as_deref(), Some(&b"before"[..]));
        assert_eq!(connection.receive().await.unwrap(), None, "length {prefix}");
    }
    server.assert_echoes().await;
    until("all are closed", || server.stats.connections_now() == 0).await;
}

#[tokio::test]
async fn the_largest_frame_is_served() {
    let server = echo(limited());
    let frame = vec![3; 1_000_000];
    let mut connection = server.connect().await;
    connection.send_frame(&frame).await.unwrap();
    assert_eq!(connection.receive().await.unwrap().unwrap(), frame);
}

#[tokio::test]
async fn a_frame_beyond_a_mebibyte_grows_and_is_served() {
    let server = echo(ServerOptions::default());
    let frame: Vec<u8> = (0..11_000_000_u32).map(|i| (i % 251) as u8).collect();
    let connection = server.connect().await;
    // Both directions at once: the echo does not wait until all has been sent.
    let (mut read, mut write) = connection.into_stream().into_split();
    let sent = frame.clone();
    let sender = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        write.write_all(&u32::try_from(sent.len()).unwrap().to_be_bytes()).await.unwrap();
        write.write_all(&sent).await.unwrap();
        write
    });
    let mut received = vec![0; frame.len() + 4];
    tokio::io::AsyncReadExt::read_exact(&mut read, &mut received).await.unwrap();
    assert!(received[4..] == frame[..]);
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn half_frames_are_waited_for_cost_what_arrived_and_go_with_their_connection() {
    let handled = Arc::new(AtomicUsize::new(0));
    let server = serve(ServerOptions::default(), {
        let handled = handled.clone();
        move |_connection, frame| {
            handled.fetch_add(1, Ordering::SeqCst);
            Reply::bytes(frame)
        }
    });
    let mut connection = server.connect().await;
    connection.send_bytes(&100_000_000_u32.to_be_bytes()).await.unwrap();
    connection.send_bytes(&vec![1; 20_000]).await.unwrap();
    until("the half is charged", || server.stats.request_bytes_now() == 20_000).await;
    server.assert_echoes().await;
    drop(connection);
    until("it is given back", || server.stats.request_bytes_now() == 0).await;
    for half in [&b"\0"[..], b"\0\0\0\x05hell"] {
        let mut connection = server.connect().await;
        connection.send_bytes(half).await.unwrap();
        connection.finish_sending().await.unwrap();
        assert_eq!(connection.receive().await.unwrap(), None);
    }
    assert_eq!(handled.load(Ordering::SeqCst), 1, "only the whole frame");
}

#[tokio::test]
async fn a_panic_of_the_service_costs_one_connection() {
    let server = serve(ServerOptions::default(), |_connection, frame| {
        assert!(&frame[..] != b"panic", "as the test demands");
        Reply::bytes(frame)
    });
    let mut connection = server.connect().await;
    connection.send_frame(b"panic").await.unwrap();
    assert_eq!(connection.receive().await.unwrap(), None);
    server.assert_echoes().await;
    until("it is counted as closed", || server.stats.connections_now() == 0).await;
}
