//! `docs/configuration.md`, made from the registry.

use std::fmt::Write as _;

use super::key::{Key, Scope, Status};
use super::{broker_keys, group_keys, topic_keys};

/// The page, in Markdown.
#[must_use]
pub fn render() -> String {
    let mut page = String::from(INTRODUCTION);
    section(&mut page, "Broker keys", BROKER, broker_keys());
    section(&mut page, "Topic keys", TOPIC, topic_keys().collect());
    section(&mut page, "Group keys", GROUP, group_keys().collect());
    page
}

/// What a key does, or why it does nothing.
#[must_use]
pub(super) fn sentence(key: &Key) -> String {
    match key.status {
        Status::Honoured(text) => text.to_owned(),
        Status::Fixed(why) => format!("Always {}: {why}.", key.default.unwrap_or("unset")),
        Status::NotUsed(why) => format!("Not used: {why}."),
    }
}

const INTRODUCTION: &str = "# Configuration

Made from the registry of keys in `crates/cluster`; do not edit.

Keys have Kafka's names. They are read from `server.properties`, from `KAFKA_*` environment variables (`KAFKA_LOG_DIRS` is
`log.dirs`) and from `--override key=value`, the later going before the earlier; an unknown key is warned of and does no harm.
Keys that begin with `ottla.` are Ottla's own. What is set on a topic goes before what is set at run time on a broker, then for
all brokers, then at the start of the broker, then the default.

*Honoured* keys do what the table says. *Fixed* keys always have their default, and another value is refused. *Not used* keys are
known, checked and without effect, for the reason given.
";

const BROKER: &str = "*start*: set at the start only. *broker*: also at run time, for one broker. *cluster*: also at run time, \
                      for one broker or for all.";
const TOPIC: &str = "Set when the topic is created, or later. A topic that does not set a key has the value of the broker key \
                     named beside it.";
const GROUP: &str = "Set on a group.";

fn section(page: &mut String, title: &str, text: &str, keys: Vec<&Key>) {
    let (used, unused): (Vec<&Key>, Vec<&Key>) =
        keys.into_iter().partition(|key| !matches!(key.status, Status::NotUsed(_)));
    let written = write!(page, "\n## {title}\n\n{text}\n\n");
    written.expect("writing to a string does not fail");
    table(page, &used);
    if !unused.is_empty() {
        page.push_str("\nKnown and not used:\n\n");
        table(page, &unused);
    }
}

fn table(page: &mut String, keys: &[&Key]) {
    if keys.is_empty() {
        return;
    }
    page.push_str(
        "| key | type | default | set | status | meaning |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for key in keys {
        let written = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            key.kind.name().to_lowercase(),
            default(key),
            scope(key),
            status(key),
            meaning(key)
        );
        written.expect("writing to a string does not fail");
    }
}

fn default(key: &Key) -> String {
    let shown = |value: Option<&str>| match value {
        None => "unset".to_owned(),
        Some("") => "empty".to_owned(),
        Some(value) => format!("`{value}`"),
    };
    match key.kafka_default {
        None => shown(key.default),
        Some(kafka) => format!("{} (Kafka: {})", shown(key.default), shown(kafka)),
    }
}

fn scope(key: &Key) -> String {
    match key.scope {
        Scope::Topic | Scope::Group => match key.synonyms.first() {
            Some(synonym) => format!("broker key `{}`", synonym.name),
            None => "—".to_owned(),
        },
        Scope::ReadOnly => "start".to_owned(),
        Scope::PerBroker => "broker".to_owned(),
        Scope::ClusterWide => "cluster".to_owned(),
    }
}

fn status(key: &Key) -> &'static str {
    match key.status {
        Status::Honoured(_) => "honoured",
        Status::Fixed(_) => "fixed",
        Status::NotUsed(_) => "not used",
    }
}

fn meaning(key: &Key) -> String {
    match key.status {
        Status::Honoured(text) => text.to_owned(),
        Status::Fixed(why) | Status::NotUsed(why) => why.to_owned(),
    }
}
