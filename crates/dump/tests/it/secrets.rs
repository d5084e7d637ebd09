//! What is secret is not shown, in no format, unless it is asked for.

use bytes::Bytes;
use ottla_dump::filter::Filter;
use ottla_dump::frame::Direction;
use ottla_dump::printer::Format;
use ottla_dump::session::Sessions;
use ottla_dump::show::Pasted;
use ottla_protocol::generated::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use ottla_protocol::generated::records::UserScramCredentialRecord;
use ottla_protocol::wire::Message;

use crate::support::{printer, request, seen};

const SECRET: &str = "correct-horse";
const FORMATS: [Format; 3] = [Format::Json, Format::Text { hex: false }, Format::Text { hex: true }];

/// The secret as text, in hex with and without blanks, and in base64.
fn holds_secret(text: &str) -> bool {
    let spaced: Vec<_> = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let flat: String = text.split_whitespace().collect();
    [SECRET.to_owned(), spaced.concat(), "Y29ycmVjdC1ob3JzZQ".to_owned()]
        .iter()
        .any(|s| flat.contains(s.as_str()))
        || text.contains(&spaced[..8].join(" "))
}

fn shown(frames: &[(Direction, Bytes)], format: Format, show_secrets: bool) -> String {
    let (mut printer, kept) = printer(format);
    let mut sessions = Sessions::new(Filter::default(), show_secrets);
    for (direction, bytes) in frames {
        printer.frame(&sessions.see(seen(*direction, bytes.clone())).unwrap()).unwrap();
    }
    kept.text()
}

fn check(frames: &[(Direction, Bytes)]) {
    for format in FORMATS {
        let masked = shown(frames, format, false);
        assert!(!holds_secret(&masked), "{format:?}: {masked}");
        assert!(masked.contains("masked)"), "{format:?}: {masked}");
        let open = shown(frames, format, true);
        assert!(holds_secret(&open), "{format:?}: {open}");
    }
}

fn sasl_authenticate(cut: usize) -> Bytes {
    let body = [&(SECRET.len() as i32).to_be_bytes(), SECRET.as_bytes()].concat();
    let whole = request(36, 0, 1, false, &body);
    whole.slice(..whole.len() - cut)
}

#[test]
fn sasl_payloads() {
    check(&[(Direction::Request, sasl_authenticate(0))]);
    let response = [&[0, 0, 0, 1, 0, 0, 255, 255, 0, 0, 0, 13], SECRET.as_bytes()].concat();
    check(&[(Direction::Request, sasl_authenticate(0)), (Direction::Response, response.into())]);
}

#[test]
fn what_did_not_decode_of_them() {
    let body = [&(SECRET.len() as i32 + 9).to_be_bytes(), SECRET.as_bytes()].concat();
    check(&[(Direction::Request, request(36, 0, 1, false, &body))]);
    // A version that is not known.
    check(&[(Direction::Request, request(36, 99, 1, true, SECRET.as_bytes()))]);
}

#[test]
fn tokens_without_a_header() {
    let handshake = request(17, 0, 1, false, b"\0\x05PLAIN");
    let answer = Bytes::from_static(b"\0\0\0\x01\0\0\0\0\0\x01\0\x05PLAIN");
    let token = Bytes::from(format!("\0user\0{SECRET}"));
    let session =
        [(Direction::Request, handshake), (Direction::Response, answer), (Direction::Request, token)];
    check(&session);
    // A request that is known ends the tokens.
    let text = shown(
        &[&session[..], &[(Direction::Request, request(18, 0, 2, false, &[]))]].concat(),
        Format::Json,
        false,
    );
    let rows: Vec<_> = text.lines().collect();
    assert!(rows[3].contains("\"ApiVersions\"") && !rows[3].contains("error"), "{}", rows[3]);
}

#[test]
fn scram_credentials_of_requests() {
    let upsertion = ScramCredentialUpsertion {
        name: "alice".into(),
        mechanism: 1,
        iterations: 4096,
        salt: Bytes::from(SECRET),
        salted_password: Bytes::from(SECRET),
        ..ScramCredentialUpsertion::default()
    };
    let message = AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() };
    let body = message.encode(0).unwrap();
    check(&[(Direction::Request, request(51, 0, 1, true, &body))]);
}

#[test]
fn settings_that_hold_passwords() {
    // IncrementalAlterConfigs 0: one resource, two settings, not for validation only.
    let set = |name: &str, value: &str| {
        let text = |t: &str| [&(t.len() as i16).to_be_bytes(), t.as_bytes()].concat();
        [text(name), vec![0], text(value)].concat()
    };
    let body = [
        &[0, 0, 0, 1, 4, 0, 1, b'1', 0, 0, 0, 2][..],
        &set("listener.name.a.sasl.jaas.config", SECRET),
        &set("log.retention.ms", "7"),
        &[0],
    ]
    .concat();
    let frames = [(Direction::Request, request(44, 0, 1, false, &body))];
    check(&frames);
    let text = shown(&frames, Format::Json, false);
    assert!(text.contains("\"Value\":\"7\"") && !text.contains("error"), "{text}");
}

#[test]
fn credentials_in_the_metadata_log() {
    let record = UserScramCredentialRecord {
        name: "alice".into(),
        mechanism: 1,
        salt: Bytes::from(SECRET),
        stored_key: Bytes::from(SECRET),
        server_key: Bytes::from(SECRET),
        iterations: 4096,
        ..UserScramCredentialRecord::default()
    };
    let value = [&[1, 11, 0][..], &record.encode(0).unwrap()].concat();
    let mut builder = ottla_protocol::records::Builder::new(ottla_protocol::records::Compression::None);
    builder.append(0, None, Some(&value), &[]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("__cluster_metadata-0/00000000000000000000.log");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, builder.finish().unwrap()).unwrap();
    for format in FORMATS {
        for show_secrets in [false, true] {
            let (mut printer, kept) = printer(format);
            let options = ottla_dump::file::FileOptions { show_secrets, ..Default::default() };
            assert!(ottla_dump::file::show(&path, &options, &mut printer).unwrap());
            let text = kept.text();
            assert!(text.contains("alice"));
            assert_eq!(holds_secret(&text), show_secrets, "{format:?}: {text}");
        }
    }
}

#[test]
fn a_pasted_message() {
    let body = [&(SECRET.len() as i32).to_be_bytes(), SECRET.as_bytes()].concat();
    let what = Pasted::named("SaslAuthenticateRequest:0").unwrap();
    for (cut, format) in [(0, Format::Json), (0, Format::Text { hex: true }), (1, Format::Json)] {
        let (mut printer, kept) = printer(format);
        let bytes = Bytes::from(body[..body.len() - cut].to_vec());
        assert_eq!(what.show(&bytes, false, &mut printer).unwrap(), cut == 0);
        assert!(!holds_secret(&kept.text()), "{}", kept.text());
    }
}
