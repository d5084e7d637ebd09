//! `ottla group`.

mod reset;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use ottla_client_sdk::{
    Admin, DescribedGroup, Error, ErrorCode, GroupMember, Isolation, Position, TopicPartition,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{Column, Tone};
use crate::session::Session;
use reset::ResetArgs;

/// Arguments of `group`.
#[derive(Debug, Args)]
pub struct GroupArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: GroupCommand,
}

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Lists groups
    List,
    /// Shows a group: members, and each partition's committed offset and lag
    Describe {
        /// Its id
        group: String,
    },
    /// Tells why a group is as it is: its last rebalances, and each partition that does not move
    Why {
        /// Its id
        group: String,
    },
    /// Sets the offsets of a group that nobody is in
    #[command(after_help = "Examples:
  ottla group reset readers --topic orders --to beginning --dry-run
  ottla group reset readers --topic orders --partitions 0-3 --to 2026-01-31T12:00:00Z
  ottla group reset readers --all-topics --shift -100")]
    Reset(ResetArgs),
    /// Deletes groups that nobody is in, with their offsets
    Delete {
        /// Their ids
        #[arg(required = true)]
        groups: Vec<String>,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// What the cluster refuses.
pub async fn run(command: GroupCommand, session: &mut Session) -> Result<ExitCode> {
    match command {
        GroupCommand::List => list(session).await?,
        GroupCommand::Describe { group } => describe(&group, session).await?,
        GroupCommand::Why { group } => why::run(&group, session).await?,
        GroupCommand::Reset(args) => reset::run(args, session).await?,
        GroupCommand::Delete { groups, yes } => delete(&groups, yes, session).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A group in a list.
#[derive(Serialize)]
struct Listed<'a> {
    group: &'a str,
    state: Option<&'a str>,
    protocol_type: &'a str,
}

/// Groups that are rebalancing or gone deserve a look.
fn tone_of_state(state: &Value) -> Tone {
    match state.as_str() {
        Some("Stable") => Tone::Good,
        Some("PreparingRebalance" | "CompletingRebalance") => Tone::Doubtful,
        Some("Dead") => Tone::Bad,
        _ => Tone::Plain,
    }
}

async fn list(session: &mut Session) -> Result<()> {
    let groups = session.admin().list_groups().await?;
    let rows: Vec<Listed> = groups
        .iter()
        .map(|group| Listed {
            group: &group.id,
            state: group.state.as_deref(),
            protocol_type: &group.protocol_type,
        })
        .collect();
    let columns = [
        Column::new("group", "GROUP"),
        Column::new("state", "STATE").tone(tone_of_state),
        Column::new("protocol_type", "TYPE"),
    ];
    session.out.rows(&columns, &rows, "no groups yet; `ottla consume TOPIC --group ID` makes one")?;
    Ok(())
}

/// A partition of a group.
#[derive(Clone, Debug)]
struct Read {
    place: TopicPartition,
    committed: Option<i64>,
    /// `None` where the topic is gone, or nobody leads the partition.
    end: Option<i64>,
    member: Option<GroupMember>,
}

impl Read {
    fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

/// What a group reads: partitions that its members have, and those with a committed offset.
async fn reads(admin: &Admin, group: &DescribedGroup) -> Result<Vec<Read>, Error> {
    let committed = admin.committed_offsets(&group.id).await?;
    let mut owners: BTreeMap<&TopicPartition, &GroupMember> = BTreeMap::new();
    for member in &group.members {
        owners.extend(member.partitions.iter().map(|place| (place, member)));
    }
    let places: BTreeSet<&TopicPartition> = committed.keys().chain(owners.keys().copied()).collect();
    let ends = ends(admin, places.iter().copied()).await?;
    let reads = places.into_iter().map(|place| Read {
        place: place.clone(),
        committed: committed.get(place).copied(),
        end: ends.get(place).copied(),
        member: owners.get(place).map(|member| (*member).clone()),
    });
    Ok(reads.collect())
}

/// The ends of those partitions that are there and have a leader.
async fn ends<'a>(
    admin: &Admin,
    places: impl Iterator<Item = &'a TopicPartition>,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let mut wanted: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for place in places {
        wanted.entry(&place.topic).or_default().push(place.partition);
    }
    let mut found = BTreeMap::new();
    for (name, indexes) in wanted {
        let topic = match admin.describe_topic(name).await {
            Ok(topic) => topic,
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => continue,
            Err(error) => return Err(error),
        };
        let led = indexes.into_iter().filter(|i| topic.partition(*i).is_some_and(|p| p.leader.is_some()));
        let wanted: Vec<_> = led.map(|index| (TopicPartition::new(name, index), Position::End)).collect();
        let ends = admin.find_offsets(&wanted, Isolation::Committed).await?;
        found.extend(ends.into_iter().map(|(place, end)| (place, end.offset)));
    }
    Ok(found)
}

/// A partition of a group, described.
#[derive(Serialize)]
struct Described<'a> {
    group: &'a str,
    state: &'a str,
    topic: &'a str,
    partition: i32,
    committed: Option<i64>,
    end: Option<i64>,
    lag: Option<i64>,
    member_id: Option<&'a str>,
    instance_id: Option<&'a str>,
    client_id: Option<&'a str>,
    host: Option<&'a str>,
}

async fn describe(id: &str, session: &mut Session) -> Result<()> {
    let admin = session.admin();
    let group = admin.describe_group(id).await?;
    let reads = reads(&admin, &group).await?;
    let rows: Vec<Described> = reads
        .iter()
        .map(|read| Described {
            group: id,
            state: &group.state,
            topic: read.place.topic.as_str(),
            partition: read.place.partition,
            committed: read.committed,
            end: read.end,
            lag: read.lag(),
            member_id: read.member.as_ref().map(|member| member.id.as_str()),
            instance_id: read.member.as_ref().and_then(|member| member.instance_id.as_deref()),
            client_id: read.member.as_ref().map(|member| member.client_id.as_str()),
            host: read.member.as_ref().map(|member| member.host.as_str()),
        })
        .collect();
    let lag: i64 = reads.iter().filter_map(Read::lag).sum();
    let assignor = if group.assignor.is_empty() { "none" } else { &group.assignor };
    session.out.line(&format!(
        "group {id}: {}, members {}, assignor {assignor}, coordinator {}, lag {lag}",
        group.state,
        group.members.len(),
        group.coordinator
    ))?;
    let idle = group.members.iter().filter(|member| member.partitions.is_empty()).count();
    if idle > 0 {
        session.out.line(&format!("{idle} members have no partition"))?;
    }
    let columns = [
        Column::new("topic", "TOPIC"),
        Column::new("partition", "PARTITION"),
        Column::new("committed", "COMMITTED"),
        Column::new("end", "END"),
        Column::new("lag", "LAG")
            .tone(|lag| if lag.as_i64().is_some_and(|lag| lag > 0) { Tone::Doubtful } else { Tone::Plain }),
        Column::new("member_id", "MEMBER"),
        Column::new("client_id", "CLIENT"),
        Column::new("host", "HOST"),
    ];
    session.out.rows(&columns, &rows, "no partitions: nothing is assigned or committed")?;
    Ok(())
}

async fn delete(groups: &[String], yes: bool, session: &mut Session) -> Result<()> {
    session.confirm(&format!("delete {} with all offsets?", groups.join(", ")), yes)?;
    for group in groups {
        session.admin().delete_group(group).await?;
        session
            .out
            .done(&json!({"group": group, "result": "deleted"}), &format!("group {group}: deleted"))?;
    }
    Ok(())
}
