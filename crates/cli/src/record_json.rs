//! A record as a line of JSON: what `consume --output json` writes and `produce --json` reads.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ottla_client_sdk::ConsumerRecord;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes: text where they are UTF-8, else `{"base64": "..."}`.
struct Shown<'a>(&'a [u8]);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &BASE64.encode(self.0))?;
                map.end()
            }
        }
    }
}

/// A header.
#[derive(Serialize)]
struct ShownHeader<'a> {
    key: Shown<'a>,
    value: Option<Shown<'a>>,
}

/// A record that was read.
#[derive(Serialize)]
pub struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<Shown<'a>>,
    value: Option<Shown<'a>>,
    headers: Vec<ShownHeader<'a>>,
}

impl<'a> From<&'a ConsumerRecord> for Line<'a> {
    fn from(record: &'a ConsumerRecord) -> Line<'a> {
        let headers =
            record.headers().map(|(key, value)| ShownHeader { key: Shown(key), value: value.map(Shown) });
        Line {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms(),
            key: record.key().map(Shown),
            value: record.value().map(Shown),
            headers: headers.collect(),
        }
    }
}

/// Bytes to send.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given(Vec<u8>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "text, or {\"base64\": \"...\"}")]
        enum Either {
            Text(String),
            Bytes { base64: String },
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => Ok(Given(text.into_bytes())),
            Either::Bytes { base64 } => BASE64.decode(base64).map(Given).map_err(serde::de::Error::custom),
        }
    }
}

/// A header to send.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenHeader {
    key: String,
    #[serde(default)]
    value: Option<Given>,
}

/// A record to send. What `consume` writes beyond it is not needed, and is let by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenRecord {
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp_ms: Option<i64>,
    #[serde(default)]
    key: Option<Given>,
    #[serde(default)]
    value: Option<Given>,
    #[serde(default)]
    headers: VecDeque<GivenHeader>,
    #[serde(default, rename = "topic")]
    _topic: Option<String>,
    #[serde(default, rename = "offset")]
    _offset: Option<i64>,
}

/// A record to send.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The partition, where it is said.
    pub partition: Option<i32>,
    /// The time, where it is said.
    pub timestamp_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &[u8]) -> Result<Parsed> {
    let given: GivenRecord = serde_json::from_slice(line)
        .context("not a record: say for example {\"key\": \"k\", \"value\": \"v\", \"headers\": [{\"key\": \"h\", \"value\": \"x\"}]}")?;
    let bytes = |given: Option<Given>| given.map(|Given(bytes)| bytes);
    Ok(Parsed {
        partition: given.partition,
        timestamp_ms: given.timestamp_ms.filter(|ms| *ms >= 0),
        key: bytes(given.key),
        value: bytes(given.value),
        headers: given.headers.into_iter().map(|header| (header.key, bytes(header.value))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_may_say_all_or_nothing() {
        let all = br#"{"topic":"t","partition":3,"offset":7,"timestamp_ms":5,"key":"k","value":{"base64":"/w=="},"headers":[{"key":"h","value":null}]}"#;
        let parsed = parse(all).unwrap();
        assert_eq!((parsed.partition, parsed.timestamp_ms), (Some(3), Some(5)));
        assert_eq!((parsed.key, parsed.value), (Some(b"k".to_vec()), Some(vec![0xff])));
        assert_eq!(parsed.headers, [("h".to_owned(), None)]);
        assert_eq!(parse(b"{}").unwrap(), Parsed::default());
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        for (line, what) in [
            (&b"{\"vlaue\":\"v\"}"[..], "unknown field `vlaue`"),
            (b"{\"key\":5}", "text, or {\"base64\""),
            (b"{\"key\":{\"base64\":\"?\"}}", "Invalid symbol"),
            (b"v", "not a record: say"),
        ] {
            let error = format!("{:#}", parse(line).unwrap_err());
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        assert_eq!(serde_json::to_string(&Shown(b"\xff")).unwrap(), "{\"base64\":\"/w==\"}");
        assert_eq!(serde_json::to_string(&Shown("ä".as_bytes())).unwrap(), "\"ä\"");
    }
}
