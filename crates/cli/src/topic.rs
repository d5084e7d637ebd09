//! `ottla topic`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use ottla_client_sdk::{
    Admin, ConfigChange, Error, ErrorCode, Isolation, NewTopic, Partition, Position, Resource, Topic,
    TopicPartition,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::{self, PLACE_FORMS, Partitions, Place};
use crate::output::{Column, Tone};
use crate::session::Session;

/// Arguments of `topic`.
#[derive(Debug, Args)]
pub struct TopicArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TopicCommand,
}

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Creates topics
    #[command(after_help = "Example:
  ottla topic create orders --partitions 12 --config retention.ms=86400000")]
    Create(CreateArgs),
    /// Lists topics
    List {
        /// The cluster's own topics too
        #[arg(long)]
        internal: bool,
    },
    /// Shows a topic's partitions: leader, replicas, offsets, size
    Describe {
        /// Its name
        topic: String,
    },
    /// Gives a topic more partitions, or other settings
    #[command(after_help = "Example:
  ottla topic alter orders --partitions 24 --config retention.ms=3600000 --unset cleanup.policy")]
    Alter(AlterArgs),
    /// Deletes topics with all their records
    Delete {
        /// Their names
        #[arg(required = true)]
        topics: Vec<String>,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Deletes records of a topic, all of them or the oldest, and keeps the topic
    #[command(after_help = "Example:
  ottla topic purge orders --before 7d")]
    Purge(PurgeArgs),
}

/// Arguments of `topic create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Their names
    #[arg(required = true)]
    topics: Vec<String>,
    /// How many partitions; by default what the brokers say
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas of each; by default what the brokers say
    #[arg(short, long, value_parser = clap::value_parser!(i16).range(1..))]
    replicas: Option<i16>,
    /// A setting
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = arguments::setting)]
    config: Vec<(String, String)>,
    /// Is content with a topic that is there already
    #[arg(long)]
    if_not_exists: bool,
    /// Only asks whether it could be created
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `topic alter`.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// Its name
    topic: String,
    /// How many partitions it has then; keys may meet another partition afterwards
    #[arg(short, long)]
    partitions: Option<i32>,
    /// A setting
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = arguments::setting)]
    config: Vec<(String, String)>,
    /// A setting that gets its default again
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

/// Arguments of `topic purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Its name
    topic: String,
    /// Only these partitions, for example 0,3 or 0-5
    #[arg(short, long, value_parser = arguments::partitions)]
    partitions: Option<Partitions>,
    /// Records before this place go; all by default
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = arguments::place, long_help = format!("Records before this place go; all by default. A place is {PLACE_FORMS}"))]
    before: Option<Place>,
    /// Does not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs the command.
///
/// # Errors
/// What the cluster refuses.
pub async fn run(command: TopicCommand, session: &mut Session) -> Result<ExitCode> {
    match command {
        TopicCommand::Create(args) => create(args, session).await?,
        TopicCommand::List { internal } => list(internal, session).await?,
        TopicCommand::Describe { topic } => describe(&topic, session).await?,
        TopicCommand::Alter(args) => alter(args, session).await?,
        TopicCommand::Delete { topics, yes } => delete(&topics, yes, session).await?,
        TopicCommand::Purge(args) => purge(args, session).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs, session: &mut Session) -> Result<()> {
    let admin = session.admin();
    for name in &args.topics {
        let mut topic = NewTopic::new(name).validate_only(args.dry_run);
        if let Some(partitions) = args.partitions {
            topic = topic.partitions(partitions);
        }
        if let Some(replicas) = args.replicas {
            topic = topic.replication_factor(replicas);
        }
        for (key, value) in &args.config {
            topic = topic.config(key, value);
        }
        let word = match admin.create_topic(&topic).await {
            Ok(()) if args.dry_run => "could be created",
            Ok(()) => "created",
            Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                "is there"
            }
            Err(error) => return Err(error.into()),
        };
        session.out.done(&json!({"topic": name, "result": word}), &format!("topic {name}: {word}"))?;
    }
    Ok(())
}

/// A topic in a list.
#[derive(Serialize)]
struct Listed<'a> {
    topic: &'a str,
    partitions: i32,
    replicas: usize,
    under_replicated: usize,
    offline: usize,
    is_internal: bool,
}

/// Partitions that have a leader but not all replicas in sync, and those without a leader.
pub fn troubles(topic: &Topic) -> (usize, usize) {
    let lacking = |partition: &&Partition| {
        partition.leader.is_some() && partition.in_sync_replicas.len() < partition.replicas.len()
    };
    let under_replicated = topic.partitions.iter().filter(lacking).count();
    (under_replicated, topic.partitions.iter().filter(|partition| partition.leader.is_none()).count())
}

/// Anything but zero is bad.
pub fn bad_if_any(value: &Value) -> Tone {
    if value.as_u64().is_some_and(|count| count > 0) { Tone::Bad } else { Tone::Plain }
}

fn doubtful_if_any(value: &Value) -> Tone {
    if value.as_u64().is_some_and(|count| count > 0) { Tone::Doubtful } else { Tone::Plain }
}

async fn list(internal: bool, session: &mut Session) -> Result<()> {
    let topics = session.admin().list_topics().await?;
    let rows: Vec<Listed> = topics
        .iter()
        .filter(|topic| internal || !topic.is_internal)
        .map(|topic| {
            let (under_replicated, offline) = troubles(topic);
            Listed {
                topic: topic.name.as_str(),
                partitions: topic.partitions_count(),
                replicas: topic
                    .partitions
                    .iter()
                    .map(|partition| partition.replicas.len())
                    .max()
                    .unwrap_or(0),
                under_replicated,
                offline,
                is_internal: topic.is_internal,
            }
        })
        .collect();
    let columns = [
        Column::new("topic", "TOPIC"),
        Column::new("partitions", "PARTITIONS"),
        Column::new("replicas", "REPLICAS"),
        Column::new("under_replicated", "UNDER-REPLICATED").tone(doubtful_if_any),
        Column::new("offline", "OFFLINE").tone(bad_if_any),
    ];
    session.out.rows(&columns, &rows, "no topics yet; `ottla topic create NAME` makes one")?;
    Ok(())
}

/// A partition, described.
#[derive(Serialize)]
struct Described<'a> {
    topic: &'a str,
    topic_id: String,
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: &'a [i32],
    in_sync_replicas: &'a [i32],
    offline_replicas: &'a [i32],
    beginning: Option<i64>,
    end: Option<i64>,
    size_bytes: Option<i64>,
}

/// Beginning and end of each partition that has a leader.
///
/// # Errors
/// What keeps a leader from answering.
pub async fn bounds(admin: &Admin, topic: &Topic) -> Result<BTreeMap<i32, (i64, i64)>, Error> {
    let places = |position| {
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        led.map(|partition| {
            (TopicPartition { topic: topic.name.clone(), partition: partition.index }, position)
        })
        .collect::<Vec<_>>()
    };
    let beginnings = admin.find_offsets(&places(Position::Beginning), Isolation::Uncommitted).await?;
    let ends = admin.find_offsets(&places(Position::End), Isolation::Uncommitted).await?;
    let bounds = beginnings.iter().filter_map(|(place, beginning)| {
        Some((place.partition, (beginning.offset, ends.get(place)?.offset)))
    });
    Ok(bounds.collect())
}

async fn describe(name: &str, session: &mut Session) -> Result<()> {
    let admin = session.admin();
    let topic = admin.describe_topic(name).await?;
    let bounds = bounds(&admin, &topic).await?;
    let mut sizes: BTreeMap<i32, i64> = BTreeMap::new();
    // The largest replica's size. Some brokers do not tell; offsets are worth showing without.
    for directory in admin.describe_log_directories().await.unwrap_or_default() {
        for (place, bytes) in directory.replicas.iter().filter(|(place, _)| place.topic == topic.name) {
            let size = sizes.entry(place.partition).or_default();
            *size = (*size).max(*bytes);
        }
    }
    let rows: Vec<Described> = topic
        .partitions
        .iter()
        .map(|partition| Described {
            topic: name,
            topic_id: topic.id.to_string(),
            partition: partition.index,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: &partition.replicas,
            in_sync_replicas: &partition.in_sync_replicas,
            offline_replicas: &partition.offline_replicas,
            beginning: bounds.get(&partition.index).map(|(beginning, _)| *beginning),
            end: bounds.get(&partition.index).map(|(_, end)| *end),
            size_bytes: sizes.get(&partition.index).copied(),
        })
        .collect();
    session.out.line(&format!("topic {name}, id {}, {} partitions", topic.id, rows.len()))?;
    let set: Vec<String> = admin
        .describe_configs(&Resource::Topic(name.to_owned()))
        .await?
        .into_iter()
        .filter(|entry| entry.is_set_here)
        .map(|entry| format!("{}={}", entry.key, entry.value.as_deref().unwrap_or("(secret)")))
        .collect();
    if !set.is_empty() {
        session.out.line(&format!("settings: {}", set.join(" ")))?;
    }
    let columns = [
        Column::new("partition", "PARTITION"),
        Column::new("leader", "LEADER").tone(|leader| if leader.is_null() { Tone::Bad } else { Tone::Plain }),
        Column::new("leader_epoch", "EPOCH"),
        Column::new("replicas", "REPLICAS"),
        Column::new("in_sync_replicas", "IN SYNC"),
        Column::new("beginning", "BEGINNING"),
        Column::new("end", "END"),
        Column::new("size_bytes", "BYTES"),
    ];
    session.out.rows(&columns, &rows, "no partitions")?;
    Ok(())
}

async fn alter(args: AlterArgs, session: &mut Session) -> Result<()> {
    let AlterArgs { topic, partitions, config, unset } = args;
    if partitions.is_none() && config.is_empty() && unset.is_empty() {
        bail!("nothing to alter: say --partitions, --config or --unset");
    }
    let admin = session.admin();
    let set = config.iter().map(|(key, value)| ConfigChange::Set(key.clone(), value.clone()));
    let changes: Vec<ConfigChange> = set.chain(unset.iter().cloned().map(ConfigChange::Reset)).collect();
    if !changes.is_empty() {
        admin.alter_configs(&Resource::Topic(topic.clone()), &changes).await?;
    }
    if let Some(partitions) = partitions {
        admin.create_partitions(&topic, partitions).await?;
    }
    session.out.done(&json!({"topic": topic, "result": "altered"}), &format!("topic {topic}: altered"))?;
    Ok(())
}

async fn delete(topics: &[String], yes: bool, session: &mut Session) -> Result<()> {
    session.confirm(&format!("delete {} with all records?", topics.join(", ")), yes)?;
    for topic in topics {
        session.admin().delete_topic(topic).await?;
        session
            .out
            .done(&json!({"topic": topic, "result": "deleted"}), &format!("topic {topic}: deleted"))?;
    }
    Ok(())
}

async fn purge(args: PurgeArgs, session: &mut Session) -> Result<()> {
    let admin = session.admin();
    let topic = admin.describe_topic(&args.topic).await?;
    let all = || (0..topic.partitions_count()).collect();
    let indexes = args.partitions.map_or_else(all, |Partitions(indexes)| indexes);
    let place = args.before.unwrap_or(Place::End);
    session.confirm(&format!("delete records of {}?", args.topic), args.yes)?;
    let wanted: Vec<_> = indexes
        .iter()
        .map(|index| (TopicPartition { topic: topic.name.clone(), partition: *index }, place.position()))
        .collect();
    let found = admin.find_offsets(&wanted, Isolation::Uncommitted).await?;
    let bounds = bounds(&admin, &topic).await?;
    for (at, found) in &found {
        let (beginning, end) = bounds.get(&at.partition).copied().unwrap_or((0, found.offset));
        let offset = place.offset(found.offset, beginning).clamp(beginning, end);
        let now = admin.delete_records(at, offset).await?;
        let row = json!({"topic": args.topic, "partition": at.partition, "deleted": now - beginning, "beginning": now});
        session.out.done(&row, &format!("{at}: {} records deleted, begins at {now}", now - beginning))?;
    }
    Ok(())
}
