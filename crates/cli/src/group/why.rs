//! `ottla group why`: what happened, and why each partition is where it is or does not move. From the broker's own
//! explanations, or from what every broker tells where there are none.

use anyhow::Result;
use jiff::Timestamp;
use ottla_client_sdk::{DescribedGroup, Error, GroupEvent, GroupExplanation};
use serde::Serialize;

use super::{Read, reads};
use crate::output::{Column, Tone};
use crate::session::Session;

/// Something that happened.
#[derive(Serialize)]
struct EventRow<'a> {
    kind: &'static str,
    group: &'a str,
    time: String,
    timestamp_ms: i64,
    generation: i32,
    event: &'a str,
    member_id: Option<&'a str>,
    client_id: Option<&'a str>,
    text: &'a str,
}

/// A partition.
#[derive(Serialize)]
struct PartitionRow<'a> {
    kind: &'static str,
    group: &'a str,
    topic: &'a str,
    partition: i32,
    /// `moves`, `done`, `stands` or `unknown`.
    progress: &'static str,
    lag: Option<i64>,
    member_id: Option<&'a str>,
    previous_member_id: Option<&'a str>,
    since_generation: Option<i32>,
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// A group that does not exist; what keeps brokers from answering.
pub async fn run(id: &str, session: &mut Session) -> Result<()> {
    let admin = session.admin();
    let explanation = match admin.explain_group(id).await {
        Ok(explanation) => Some(explanation),
        Err(Error::Unsupported { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let group = admin.describe_group(id).await?;
    let reads = reads(&admin, &group).await?;
    let later = super::reads(&admin, &group).await?;
    headline(&group, explanation.as_ref(), session)?;
    if let Some(explanation) = &explanation {
        events(id, &explanation.events, session)?;
        session.out.line("")?;
    }
    partitions(&group, explanation.as_ref(), &reads, &later, session)
}

fn headline(
    group: &DescribedGroup,
    explanation: Option<&GroupExplanation>,
    session: &mut Session,
) -> Result<()> {
    let generation = explanation.map_or(String::new(), |told| format!(" in generation {}", told.generation));
    let members = group.members.len();
    session.out.line(&format!(
        "group {} is {}{generation} with {members} members: {}",
        group.id,
        group.state,
        said(group)
    ))?;
    if explanation.is_none() {
        session.out.line(
            "this broker keeps no explanations (Ottla's do); what follows is judged by offsets and members",
        )?;
    }
    Ok(())
}

/// What a state means.
fn said(group: &DescribedGroup) -> &'static str {
    match group.state.as_str() {
        "Stable" => "each partition has its member",
        "Empty" => "nobody is in it; its offsets are kept",
        "PreparingRebalance" => "it waits for all members to join",
        "CompletingRebalance" => "its leader is deciding who gets what",
        _ => "see the events",
    }
}

fn events(id: &str, events: &[GroupEvent], session: &mut Session) -> Result<()> {
    let rows: Vec<EventRow> = events
        .iter()
        .map(|event| EventRow {
            kind: "event",
            group: id,
            time: Timestamp::from_millisecond(event.timestamp_ms)
                .map_or("-".to_owned(), |time| format!("{time:.3}")),
            timestamp_ms: event.timestamp_ms,
            generation: event.generation,
            event: &event.kind,
            member_id: event.member_id.as_deref(),
            client_id: event.client_id.as_deref(),
            text: &event.text,
        })
        .collect();
    let columns = [
        Column::new("time", "TIME"),
        Column::new("generation", "GENERATION"),
        Column::new("event", "EVENT").tone(|event| match event.as_str() {
            Some("timed-out" | "removed" | "not-stored") => Tone::Bad,
            Some("stable") => Tone::Good,
            _ => Tone::Plain,
        }),
        Column::new("text", "WHAT HAPPENED"),
    ];
    session.out.rows(&columns, &rows, "nothing happened since its coordinator started")?;
    Ok(())
}

fn partitions(
    group: &DescribedGroup,
    explanation: Option<&GroupExplanation>,
    reads: &[Read],
    later: &[Read],
    session: &mut Session,
) -> Result<()> {
    let rows: Vec<PartitionRow> = reads
        .iter()
        .map(|read| {
            let told = explanation.and_then(|told| told.partitions.iter().find(|p| p.place == read.place));
            let after = later.iter().find(|after| after.place == read.place);
            let (progress, judged) = judge(group, read, after);
            let reason = match told.map(|told| told.reason.as_str()).filter(|reason| !reason.is_empty()) {
                Some(told) => format!("{judged}; {told}"),
                None => judged,
            };
            PartitionRow {
                kind: "partition",
                group: &group.id,
                topic: read.place.topic.as_str(),
                partition: read.place.partition,
                progress,
                lag: read.lag(),
                member_id: read.member.as_ref().map(|member| member.id.as_str()),
                previous_member_id: told.and_then(|told| told.previous_member_id.as_deref()),
                since_generation: told.map(|told| told.since_generation),
                reason,
            }
        })
        .collect();
    let columns = [
        Column::new("topic", "TOPIC"),
        Column::new("partition", "PARTITION"),
        Column::new("progress", "PROGRESS").tone(|progress| match progress.as_str() {
            Some("stands") => Tone::Bad,
            Some("unknown") => Tone::Doubtful,
            _ => Tone::Good,
        }),
        Column::new("lag", "LAG"),
        Column::new("since_generation", "SINCE"),
        Column::new("member_id", "MEMBER"),
        Column::new("reason", "WHY"),
    ];
    session.out.rows(&columns, &rows, "no partitions: nothing is assigned or committed")?;
    Ok(())
}

/// Does a partition move, and why not? `after` is the same a moment later.
fn judge(group: &DescribedGroup, read: &Read, after: Option<&Read>) -> (&'static str, String) {
    let text = |text: &str| text.to_owned();
    if read.end.is_none() {
        return ("stands", text("the topic is gone, or the partition has no leader"));
    }
    if read.lag() == Some(0) {
        return ("done", text("all that is there has been read"));
    }
    if after.is_some_and(|after| after.committed > read.committed) {
        return ("moves", text("its committed offset is moving"));
    }
    let Some(member) = &read.member else {
        return match group.state.as_str() {
            "Empty" => ("stands", text("the group has no members: start one")),
            "Stable" => ("stands", text("no member reads this topic")),
            _ => ("stands", text("the group is rebalancing: nobody has the partition now")),
        };
    };
    match read.committed {
        None => ("unknown", format!("{} has not committed anything here yet", member.client_id)),
        Some(offset) => (
            "unknown",
            format!("{} has it and committed {offset} last; look again to see it move", member.client_id),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_client_sdk::{GroupMember, TopicPartition};

    fn group(state: &str) -> DescribedGroup {
        DescribedGroup {
            id: "g".to_owned(),
            state: state.to_owned(),
            protocol_type: "consumer".to_owned(),
            assignor: "range".to_owned(),
            coordinator: 1,
            members: Vec::new(),
        }
    }

    fn read(committed: Option<i64>, end: Option<i64>, has_member: bool) -> Read {
        let member = has_member.then(|| GroupMember {
            id: "m-1".to_owned(),
            instance_id: None,
            client_id: "app".to_owned(),
            host: "/127.0.0.1".to_owned(),
            partitions: Vec::new(),
        });
        Read { place: TopicPartition::new("t", 0), committed, end, member }
    }

    #[test]
    fn a_partition_stands_for_a_reason() {
        let cases = [
            ("Stable", read(Some(5), None, true), read(Some(5), None, true), "stands", "the topic is gone"),
            (
                "Stable",
                read(Some(5), Some(5), true),
                read(Some(5), Some(5), true),
                "done",
                "all that is there",
            ),
            ("Stable", read(Some(5), Some(9), true), read(Some(6), Some(9), true), "moves", "is moving"),
            ("Empty", read(Some(5), Some(9), false), read(Some(5), Some(9), false), "stands", "no members"),
            (
                "Stable",
                read(Some(5), Some(9), false),
                read(Some(5), Some(9), false),
                "stands",
                "no member reads",
            ),
            (
                "PreparingRebalance",
                read(None, Some(9), false),
                read(None, Some(9), false),
                "stands",
                "rebalancing",
            ),
            (
                "Stable",
                read(None, Some(9), true),
                read(None, Some(9), true),
                "unknown",
                "app has not committed",
            ),
            (
                "Stable",
                read(Some(5), Some(9), true),
                read(Some(5), Some(9), true),
                "unknown",
                "committed 5 last",
            ),
        ];
        for (state, before, after, progress, reason) in cases {
            let (judged, why) = judge(&group(state), &before, Some(&after));
            assert!(judged == progress && why.contains(reason), "{state} {before:?}: {judged}: {why}");
        }
    }
}
