//! `ottla cluster` and `ottla health`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use ottla_client_sdk::{Topic, Uuid};
use serde::Serialize;
use serde_json::json;

use crate::failure::NOT_WELL;
use crate::output::{Column, Tone};
use crate::session::Session;
use crate::topic;

/// Arguments of `cluster`.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// What to show; the brokers by default.
    #[command(subcommand)]
    pub command: Option<ClusterCommand>,
}

/// What to show.
#[derive(Debug, Default, Subcommand)]
pub enum ClusterCommand {
    /// Shows the brokers: address, rack, partitions that they lead and hold
    #[default]
    Brokers,
    /// Shows the metadata quorum: who leads, who votes, who is behind
    Quorum,
    /// Shows partitions without a leader, and those whose replicas are not all in sync; exit code 1 if there are any
    Health,
}

/// Runs the command.
///
/// # Errors
/// What keeps the cluster from answering.
pub async fn run(command: Option<ClusterCommand>, session: &mut Session) -> Result<ExitCode> {
    match command.unwrap_or_default() {
        ClusterCommand::Brokers => brokers(session).await.map(|()| ExitCode::SUCCESS),
        ClusterCommand::Quorum => quorum(session).await.map(|()| ExitCode::SUCCESS),
        ClusterCommand::Health => health(session).await,
    }
}

/// A broker.
#[derive(Serialize)]
struct BrokerRow {
    broker: i32,
    address: String,
    rack: Option<String>,
    is_controller: bool,
    leads: usize,
    holds: usize,
    in_sync: usize,
}

async fn brokers(session: &mut Session) -> Result<()> {
    let admin = session.admin();
    let cluster = admin.describe_cluster().await?;
    let topics = admin.list_topics().await?;
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let rows: Vec<BrokerRow> = cluster
        .brokers
        .iter()
        .map(|broker| BrokerRow {
            broker: broker.id,
            address: broker.address(),
            rack: broker.rack.clone(),
            is_controller: cluster.controller == Some(broker.id),
            leads: partitions().filter(|partition| partition.leader == Some(broker.id)).count(),
            holds: partitions().filter(|partition| partition.replicas.contains(&broker.id)).count(),
            in_sync: partitions().filter(|partition| partition.in_sync_replicas.contains(&broker.id)).count(),
        })
        .collect();
    session.out.line(&format!("cluster {}", cluster.id.as_deref().unwrap_or("without an id")))?;
    let columns = [
        Column::new("broker", "BROKER"),
        Column::new("address", "ADDRESS"),
        Column::new("rack", "RACK"),
        Column::new("is_controller", "CONTROLLER"),
        Column::new("leads", "LEADS"),
        Column::new("holds", "HOLDS"),
        Column::new("in_sync", "IN SYNC"),
    ];
    session.out.rows(&columns, &rows, "no brokers")?;
    Ok(())
}

/// A node of the quorum.
#[derive(Serialize)]
struct NodeRow {
    node: i32,
    role: &'static str,
    directory_id: Option<String>,
    log_end: i64,
    behind: Option<i64>,
    last_caught_up_ms: Option<i64>,
}

async fn quorum(session: &mut Session) -> Result<()> {
    let quorum = session.admin().describe_quorum().await.context("the metadata quorum cannot be shown")?;
    let end = quorum.voters.iter().chain(&quorum.observers).map(|node| node.log_end).max().unwrap_or(0);
    let row = |node: &ottla_client_sdk::QuorumNode, role| NodeRow {
        node: node.id,
        role,
        directory_id: (node.directory_id != Uuid::default()).then(|| node.directory_id.to_string()),
        log_end: node.log_end,
        behind: (node.log_end >= 0).then_some(end - node.log_end),
        last_caught_up_ms: (node.last_caught_up_ms >= 0).then_some(node.last_caught_up_ms),
    };
    let voters = quorum.voters.iter().map(|node| {
        let role = if quorum.leader == Some(node.id) { "leader" } else { "voter" };
        row(node, role)
    });
    let rows: Vec<NodeRow> =
        voters.chain(quorum.observers.iter().map(|node| row(node, "observer"))).collect();
    session.out.line(&format!("epoch {}, committed up to {}", quorum.leader_epoch, quorum.high_watermark))?;
    let columns = [
        Column::new("node", "NODE"),
        Column::new("role", "ROLE"),
        Column::new("log_end", "LOG END"),
        Column::new("behind", "BEHIND"),
        Column::new("last_caught_up_ms", "CAUGHT UP (MS)"),
        Column::new("directory_id", "DIRECTORY"),
    ];
    session.out.rows(&columns, &rows, "no voters")?;
    Ok(())
}

/// A partition that is not well.
#[derive(Serialize)]
struct TroubleRow<'a> {
    topic: &'a str,
    partition: i32,
    trouble: &'static str,
    leader: Option<i32>,
    replicas: &'a [i32],
    in_sync_replicas: &'a [i32],
}

fn troubles(topics: &[Topic]) -> Vec<TroubleRow<'_>> {
    let mut rows = Vec::new();
    for topic in topics {
        for partition in &topic.partitions {
            let trouble = if partition.leader.is_none() {
                "offline"
            } else if partition.in_sync_replicas.len() < partition.replicas.len() {
                "under-replicated"
            } else {
                continue;
            };
            rows.push(TroubleRow {
                topic: topic.name.as_str(),
                partition: partition.index,
                trouble,
                leader: partition.leader,
                replicas: &partition.replicas,
                in_sync_replicas: &partition.in_sync_replicas,
            });
        }
    }
    rows
}

async fn health(session: &mut Session) -> Result<ExitCode> {
    let topics = session.admin().list_topics().await?;
    let rows = troubles(&topics);
    let columns = [
        Column::new("topic", "TOPIC"),
        Column::new("partition", "PARTITION"),
        Column::new("trouble", "TROUBLE")
            .tone(|trouble| if trouble == "offline" { Tone::Bad } else { Tone::Doubtful }),
        Column::new("leader", "LEADER"),
        Column::new("replicas", "REPLICAS"),
        Column::new("in_sync_replicas", "IN SYNC"),
    ];
    let partitions: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    session.out.rows(&columns, &rows, &format!("all {partitions} partitions are well"))?;
    Ok(code(rows.is_empty()))
}

/// `ottla health`.
///
/// # Errors
/// What keeps the cluster from answering.
pub async fn in_one_line(session: &mut Session) -> Result<ExitCode> {
    let admin = session.admin();
    let cluster = admin.describe_cluster().await?;
    let topics = admin.list_topics().await?;
    let sum =
        |of: fn((usize, usize)) -> usize| -> usize { topics.iter().map(|t| of(topic::troubles(t))).sum() };
    let (under_replicated, offline) = (sum(|troubles| troubles.0), sum(|troubles| troubles.1));
    let is_well = under_replicated == 0 && offline == 0 && cluster.controller.is_some();
    let word = if is_well { "well" } else { "not well" };
    let brokers = cluster.brokers.len();
    let row = json!({
        "is_well": is_well,
        "brokers": brokers,
        "controller": cluster.controller,
        "topics": topics.len(),
        "offline": offline,
        "under_replicated": under_replicated,
    });
    let controller = cluster.controller.map_or("none".to_owned(), |id| id.to_string());
    session.out.done(
        &row,
        &format!(
            "{word}: brokers {brokers}, controller {controller}, topics {}, partitions offline {offline}, under-replicated {under_replicated}",
            topics.len()
        ),
    )?;
    Ok(code(is_well))
}

fn code(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(NOT_WELL) }
}
