//! `ottla group reset`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use ottla_client_sdk::{Admin, Error, Isolation, Position, TopicPartition};
use serde::Serialize;

use crate::arguments::{self, PLACE_FORMS, Partitions, Place};
use crate::output::Column;
use crate::session::Session;

/// Arguments of `group reset`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub struct ResetArgs {
    /// Its id
    group: String,
    /// Topics
    #[arg(short, long, value_name = "TOPIC", group = "what")]
    topic: Vec<String>,
    /// All topics with committed offsets
    #[arg(long, group = "what")]
    all_topics: bool,
    /// Only these partitions, for example 0,3 or 0-5
    #[arg(short, long, value_parser = arguments::partitions)]
    partitions: Option<Partitions>,
    /// Where to
    #[arg(long, value_name = "PLACE", group = "where", allow_hyphen_values = true, value_parser = arguments::place, long_help = format!("Where to. A place is {PLACE_FORMS}"))]
    to: Option<Place>,
    /// By so many records, forward or (with a minus) back
    #[arg(long, value_name = "COUNT", group = "where", allow_hyphen_values = true)]
    shift: Option<i64>,
    /// Only shows what would be done
    #[arg(short = 'N', long)]
    dry_run: bool,
}

/// A partition whose offset is set.
#[derive(Serialize)]
struct Row<'a> {
    group: &'a str,
    topic: String,
    partition: i32,
    committed: Option<i64>,
    new: i64,
    lag: i64,
    result: &'static str,
}

/// Runs the command.
///
/// # Errors
/// Members in the group; a topic that does not exist; what the cluster refuses.
pub async fn run(args: ResetArgs, session: &mut Session) -> Result<()> {
    let admin = session.admin();
    let committed = admin.committed_offsets(&args.group).await?;
    let places = places(&args, &admin, &committed).await?;
    if places.is_empty() {
        bail!("group {} has committed nothing: name topics with --topic", args.group);
    }
    refuse_members(&args.group, &admin).await?;
    let targets = targets(&args, &admin, &places, &committed).await?;
    let result = if args.dry_run { "would be set" } else { "set" };
    if !args.dry_run {
        let offsets: Vec<_> = targets.iter().map(|(place, (offset, _))| (place.clone(), *offset)).collect();
        admin.set_committed_offsets(&args.group, &offsets).await?;
    }
    let rows: Vec<Row> = targets
        .into_iter()
        .map(|(place, (new, end))| Row {
            group: &args.group,
            topic: place.topic.to_string(),
            partition: place.partition,
            committed: committed.get(&place).copied(),
            new,
            lag: end - new,
            result,
        })
        .collect();
    let columns = [
        Column::new("topic", "TOPIC"),
        Column::new("partition", "PARTITION"),
        Column::new("committed", "COMMITTED"),
        Column::new("new", "NEW"),
        Column::new("lag", "LAG THEN"),
        Column::new("result", "RESULT"),
    ];
    session.out.rows(&columns, &rows, "no partitions")?;
    if args.dry_run {
        session.out.line("nothing was changed; leave --dry-run out to do it")?;
    }
    Ok(())
}

/// A member would go on from what it knows, and commit over what is set here.
async fn refuse_members(group: &str, admin: &Admin) -> Result<()> {
    match admin.describe_group(group).await {
        Ok(described) if !described.members.is_empty() => {
            let clients: Vec<&str> =
                described.members.iter().map(|member| member.client_id.as_str()).collect();
            bail!(
                "group {group} has {} members ({}): stop them first",
                described.members.len(),
                clients.join(", ")
            )
        }
        Ok(_) => Ok(()),
        // A group comes into being with its first offset.
        Err(error) if error.code() == Some(ottla_client_sdk::ErrorCode::GroupIdNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn places(
    args: &ResetArgs,
    admin: &Admin,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<TopicPartition>> {
    let is_wanted =
        |index: i32| args.partitions.as_ref().is_none_or(|Partitions(indexes)| indexes.contains(&index));
    if args.all_topics {
        return Ok(committed.keys().filter(|place| is_wanted(place.partition)).cloned().collect());
    }
    let mut places = Vec::new();
    for name in &args.topic {
        let count = admin.describe_topic(name).await?.partitions_count();
        let largest = args.partitions.as_ref().and_then(|Partitions(indexes)| indexes.last());
        if let Some(partition) = largest.filter(|index| **index >= count) {
            bail!(Error::NoSuchPartition { topic: name.clone(), partition: *partition, count });
        }
        places.extend(
            (0..count).filter(|index| is_wanted(*index)).map(|index| TopicPartition::new(name, index)),
        );
    }
    Ok(places)
}

/// The new offset and the end of each partition. No offset is outside of its log.
async fn targets(
    args: &ResetArgs,
    admin: &Admin,
    places: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, (i64, i64)>> {
    let wanted =
        |position: Position| places.iter().map(|place| (place.clone(), position)).collect::<Vec<_>>();
    let beginnings = admin.find_offsets(&wanted(Position::Beginning), Isolation::Committed).await?;
    let ends = admin.find_offsets(&wanted(Position::End), Isolation::Committed).await?;
    let found = match args.to {
        Some(place) => admin.find_offsets(&wanted(place.position()), Isolation::Committed).await?,
        None => BTreeMap::new(),
    };
    let mut targets = BTreeMap::new();
    for place in places {
        let (Some(beginning), Some(end)) = (beginnings.get(place), ends.get(place)) else { continue };
        let (beginning, end) = (beginning.offset, end.offset);
        let target = match (args.to, found.get(place), args.shift) {
            (Some(to), Some(found), _) => to.offset(found.offset, beginning),
            (_, _, Some(shift)) => {
                let Some(committed) = committed.get(place) else {
                    bail!("{place}: nothing is committed that could be shifted: say --to");
                };
                committed.saturating_add(shift)
            }
            _ => continue,
        };
        targets.insert(place.clone(), (target.clamp(beginning, end.max(beginning)), end));
    }
    Ok(targets)
}
