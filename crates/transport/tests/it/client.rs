//! The client against the server of this crate.

use crate::support::{serve, until};
use bytes::Bytes;
use ottla_protocol::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataResponse};
use ottla_protocol::generated::{ApiKey, RequestHeader, ResponseHeader};
use ottla_protocol::wire::{Message, Reader, Str, Writer};
use ottla_transport::client::{Client, ClientError, ClientOptions};
use ottla_transport::server::{Answer, Reply, ReplyFrame, ServerOptions};
use std::time::Duration;

fn header_of(frame: &Bytes) -> RequestHeader {
    let key = i16::from_be_bytes([frame[0], frame[1]]);
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let header_version = ApiKey::from_i16(key).expect("known").request_header_version(version);
    RequestHeader::read(&mut Reader::new(frame.clone()), header_version)
}

/// A response frame with this message behind its header.
fn respond<R: Message>(request: &RequestHeader, message: &R) -> Bytes {
    let version = request.request_api_version;
    let key = ApiKey::from_i16(request.request_api_key).expect("known");
    let mut writer = Writer::new();
    let header = ResponseHeader { correlation_id: request.correlation_id, ..ResponseHeader::default() };
    header.write(&mut writer, key.response_header_version(version));
    message.write(&mut writer, version);
    writer.finish_bytes().expect("encodes")
}

fn options(request_max: Duration) -> ClientOptions {
    ClientOptions { client_id: Some("test".to_owned()), request_max, ..ClientOptions::default() }
}

#[tokio::test]
async fn typed_calls_go_both_ways_in_classic_and_flexible_versions() {
    let server = serve(ServerOptions::default(), |_connection, frame| {
        let header = header_of(&frame);
        assert_eq!(header.client_id.as_deref(), Some("test"));
        if header.request_api_key == ApiKey::ApiVersions.code() {
            return Reply::bytes(respond(
                &header,
                &ApiVersionsResponse { error_code: 35, ..Default::default() },
            ));
        }
        let cluster_id = Some(Str::from("the cluster"));
        Reply::bytes(respond(&header, &MetadataResponse { cluster_id, ..Default::default() }))
    });
    let client = Client::connect_with(server.address, options(Duration::from_secs(10))).await.unwrap();
    for version in [0, 3, 4] {
        let response: ApiVersionsResponse =
            client.call(&ApiVersionsRequest::default(), version).await.unwrap();
        assert_eq!(response.error_code, 35, "version {version}");
    }
    for version in [8, 9, 13] {
        let response: MetadataResponse = client.call(&MetadataRequest::default(), version).await.unwrap();
        assert_eq!(response.cluster_id.as_deref(), Some("the cluster"), "version {version}");
    }
    let missing = client.call::<_, MetadataResponse>(&MetadataRequest::default(), 99).await.unwrap_err();
    assert!(matches!(missing, ClientError::NotARequest { version: 99, .. }), "{missing}");
}

/// Answers a Metadata request with its correlation id and body; `late` bodies only after a while, `never` never.
fn echo_service() -> crate::support::TestServer {
    serve(ServerOptions::default(), |_connection, frame| {
        let reply = ReplyFrame::new([&frame[4..8], &frame[frame.len() - 5..]].concat());
        match &frame[frame.len() - 5..] {
            b"never" => Reply::None,
            b"close" => Reply::Close("asked to".into()),
            b"later" => Reply::later(async move {
                tokio::task::yield_now().await;
                Answer::Frame(reply)
            }),
            _ => Reply::Ready(reply),
        }
    })
}

#[tokio::test]
async fn requests_are_pipelined_and_answers_find_their_askers() {
    let server = echo_service();
    let client = Client::connect(server.address).await.unwrap();
    let mut responses = Vec::new();
    for index in 0..200 {
        let body = if index % 7 == 0 { "later".to_owned() } else { format!("{index:05}") };
        responses.push((client.send(ApiKey::Metadata, 1, body.as_bytes()).await.unwrap(), body));
    }
    client.send_one_way(ApiKey::Metadata, 1, b"never").await.unwrap();
    for (response, body) in responses.into_iter().rev() {
        let number = response.correlation_id();
        let frame = response.await.unwrap();
        assert_eq!(frame[..4], number.to_be_bytes());
        assert_eq!(&frame[4..], body.as_bytes());
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_times_out_and_harms_no_other() {
    let server = echo_service();
    let client = Client::connect_with(server.address, options(Duration::from_millis(50))).await.unwrap();
    let lost = client.send(ApiKey::Metadata, 1, b"never").await.unwrap();
    assert!(matches!(lost.await.unwrap_err(), ClientError::Timeout(_)));
    drop(client.send(ApiKey::Metadata, 1, b"00000").await.unwrap());
    let kept = client.send(ApiKey::Metadata, 1, b"00001").await.unwrap();
    assert_eq!(&kept.await.unwrap()[4..], b"00001");
}

#[tokio::test]
async fn a_closed_connection_ends_all_waits() {
    let server = echo_service();
    let client = Client::connect(server.address).await.unwrap();
    let lost = client.send(ApiKey::Metadata, 1, b"never").await.unwrap();
    let closing = client.send(ApiKey::Metadata, 1, b"close").await.unwrap();
    for response in [lost, closing] {
        assert_eq!(response.await.unwrap_err().to_string(), "connection closed: by the peer");
    }
    assert!(matches!(client.send(ApiKey::Metadata, 1, b"00000").await, Err(ClientError::Closed(_))));
}

#[tokio::test]
async fn a_dropped_client_closes_its_connection_and_nobody_home_is_an_error() {
    let server = echo_service();
    let client = Client::connect(server.address).await.unwrap();
    until("it is connected", || server.stats.connections_now() == 1).await;
    drop(client);
    until("it is gone", || server.stats.connections_now() == 0).await;
    server.shutdown.cancel();
    server.server.join().await;
    let refused = Client::connect(server.address).await.unwrap_err();
    assert!(refused.to_string().starts_with(&format!("cannot connect to {}: ", server.address)), "{refused}");
}
