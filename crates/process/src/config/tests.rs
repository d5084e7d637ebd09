//! Notices and secrets; values and sources are tested with the configuration of the broker.

use super::notices::{self, Notice};
use super::*;

fn notices_of(file: &str) -> Vec<Notice> {
    let mut settings = StaticSettings::default();
    for entry in properties::parse(file).unwrap() {
        settings.set(&entry.key, &entry.value, Source::Override);
    }
    notices::of(&settings)
}

#[test]
fn odd_settings_are_noticed() {
    let unknown =
        |key: &str, meant| Notice::Unknown { key: key.to_owned(), origin: "--override".to_owned(), meant };
    assert_eq!(notices_of("num.partitons=3"), [unknown("num.partitons", Some("num.partitions"))]);
    assert_eq!(notices_of("retention.ms=3"), [unknown("retention.ms", Some("log.retention.ms"))]);
    assert_eq!(notices_of("zookeeper.connect=x"), [unknown("zookeeper.connect", None)]);
    let unprotected =
        |key: &str| Notice::Unprotected { key: key.to_owned(), origin: "--override".to_owned() };
    assert_eq!(notices_of("authorizer.class.name=X"), [unprotected("authorizer.class.name")]);
    assert_eq!(notices_of("super.users=X"), [unprotected("super.users")]);
    let quickstart = "num.network.threads=4\nnum.io.threads=8\nlog.dirs=/x\nnum.partitions=1";
    assert_eq!(notices_of(quickstart), [Notice::NotUsed { keys: vec!["num.network.threads".to_owned()] }]);
    assert_eq!(notices_of("log.dirs=/x"), []);
}

#[test]
fn secrets_do_not_reach_an_error() {
    let mut settings = StaticSettings::default();
    settings.set("ssl.key.password", "geheim", Source::Override);
    let reader = Reader::new(&settings).unwrap();
    let text = reader.bad("ssl.key.password", "reason", "advice").to_string();
    assert!(text.contains("[hidden]") && !text.contains("geheim"), "{text}");
}
