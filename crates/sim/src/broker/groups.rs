//! The groups of a partition of the offsets topic that this broker leads: the machine of `ottla_cluster::groups`, loaded from the
//! log, and told what was stored.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ottla_cluster::groups::{
    Action, Client, GroupConfig, GroupRecord, GroupShard, Now, Reply, Request, StoreError, StoreId, Ticket,
};
use ottla_cluster::image::PartitionImage;
use ottla_partition::append::{Acks, Appended};
use ottla_partition::{Partition, PartitionError};
use ottla_protocol::generated::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchHeader, Batches, Builder, Compression, DecompressLimit, HEADER_BYTES};

use super::Process;
use crate::env::Env;
use crate::history::History;
use crate::message::{Address, ClientAnswer, Correlation, Failure, Message, Tp};

/// One partition of the offsets topic.
pub(super) struct Shard {
    tp: Tp,
    epoch: LeaderEpoch,
    partition: Arc<Partition>,
    is_loaded: bool,
    /// What has to be committed before it is loaded.
    load_to: Option<Offset>,
    machine: GroupShard,
    waiting: BTreeMap<Ticket, (Address, Correlation)>,
    next_ticket: u64,
    stores: VecDeque<(StoreId, Result<Appended, StoreError>)>,
}

fn machine() -> GroupShard {
    GroupShard::new(GroupConfig {
        initial_rebalance_delay_ms: 200,
        session_timeout_ms_min: 1000,
        ..GroupConfig::default()
    })
}

impl Process {
    fn now(&self, env: &Env) -> Now {
        Now { mono_ms: env.now_ms(), wall_ms: self.wall_ms(env) }
    }

    /// The metadata says who leads.
    pub(super) fn coordinate(
        &mut self,
        env: &mut Env,
        tp: Tp,
        image: &PartitionImage,
        partition: &Arc<Partition>,
    ) {
        if image.leader != self.id {
            return self.resign(env, tp.1);
        }
        if self.shards.get(&tp.1).is_some_and(|shard| shard.epoch == image.leader_epoch) {
            return;
        }
        self.resign(env, tp.1);
        let shard = Shard {
            tp,
            epoch: image.leader_epoch,
            partition: partition.clone(),
            is_loaded: false,
            load_to: None,
            machine: machine(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            stores: VecDeque::new(),
        };
        self.shards.insert(tp.1, shard);
    }

    pub(super) fn resign(&mut self, env: &mut Env, partition: i32) {
        let Some(mut shard) = self.shards.remove(&partition) else { return };
        let actions = shard.machine.resign();
        self.perform(env, &mut shard, actions);
    }

    pub(super) fn group_asked(
        &mut self,
        env: &mut Env,
        from: Address,
        correlation: Correlation,
        partition: i32,
        request: Request,
    ) {
        let now = self.now(env);
        let is_loaded = self.shards.get(&partition).is_some_and(|shard| shard.is_loaded);
        let loaded = if is_loaded { self.shards.remove(&partition) } else { None };
        let Some(mut shard) = loaded else {
            let refused = ClientAnswer::Group(Err(Failure::Retry));
            return env.send(self.address(), from, Message::Answer(correlation, refused));
        };
        let ticket = Ticket(shard.next_ticket);
        shard.next_ticket += 1;
        shard.waiting.insert(ticket, (from, correlation));
        let actions = shard.machine.handle(now, ticket, &Client::default(), request);
        self.perform(env, &mut shard, actions);
        self.shards.insert(partition, shard);
    }

    pub(super) fn offsets_asked(
        &self,
        partition: i32,
        group: &'static str,
    ) -> Result<Vec<(i32, i64)>, Failure> {
        let shard = self.shards.get(&partition).filter(|shard| shard.is_loaded).ok_or(Failure::Retry)?;
        // A leader that was deposed and does not know it yet must not answer with what is old: commits are answered by the log.
        let asked = OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: crate::TOPIC.into(),
                partition_indexes: (0..crate::PARTITIONS).collect(),
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        };
        let fetched = shard.machine.fetch_offsets(&asked, true);
        let partitions = fetched.topics.iter().flat_map(|topic| &topic.partitions);
        let mut offsets = Vec::new();
        for partition in partitions {
            if partition.error_code != 0 {
                return Err(Failure::Retry);
            }
            offsets.push((partition.partition_index, partition.committed_offset));
        }
        Ok(offsets)
    }

    fn perform(&mut self, env: &mut Env, shard: &mut Shard, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply { ticket, reply } => {
                    if let Some((to, correlation)) = shard.waiting.remove(&ticket) {
                        env.trace.count(match reply {
                            Reply::Join(_) => "joins",
                            Reply::Sync(_) => "syncs of groups",
                            Reply::Commit(_) => "commits",
                            _ => "other group answers",
                        });
                        let answer = ClientAnswer::Group(Ok(Box::new(reply)));
                        env.send(self.address(), to, Message::Answer(correlation, answer));
                    }
                }
                Action::Store { id, records } => {
                    let appended = store(&shard.partition, &records, self.wall_ms(env));
                    shard.stores.push_back((id, appended));
                }
                Action::Tell(event) => env.trace.tell(|| format!("broker {}: {event}", self.id)),
            }
        }
    }

    /// Loads what is to be loaded, and tells the machines what was stored.
    pub(super) fn settle_groups(&mut self, env: &mut Env, history: &mut History) {
        for partition in self.shards.keys().copied().collect::<Vec<_>>() {
            let Some(mut shard) = self.shards.remove(&partition) else { continue };
            if shard.is_loaded {
                self.tell_stored(env, &mut shard);
            } else if self.is_settled(env, &mut shard)
                && let Some(machine) = load(&shard, self.wall_ms(env))
            {
                env.trace.count("group loads");
                env.trace.tell(|| format!("broker {} has loaded the groups", self.id));
                shard.is_loaded = true;
                shard.machine = machine;
                let actions = shard.machine.loaded(self.now(env));
                self.perform(env, &mut shard, actions);
            }
            if shard.is_loaded && shard.stores.is_empty() && env.random.one_in(400) {
                let fresh = load(&shard, self.wall_ms(env));
                history.compare_groups(env, shard.tp, &shard.machine, fresh.as_ref());
            }
            self.shards.insert(partition, shard);
        }
    }

    /// Whether all that the log held when this leadership began is committed.
    fn is_settled(&self, env: &Env, shard: &mut Shard) -> bool {
        if shard.partition.open_now(self.wall_ms(env)).is_err() {
            return false;
        }
        if shard.load_to.is_none() {
            // Has the rest synced; what it waits for is looked at here.
            drop(shard.partition.settle());
            shard.load_to = shard.partition.with_open_log(|log| log.end_offset());
        }
        shard.load_to.is_some_and(|upto| shard.partition.is_committed(upto, shard.epoch).unwrap_or(false))
    }

    fn tell_stored(&mut self, env: &mut Env, shard: &mut Shard) {
        while let Some((id, appended)) = shard.stores.front() {
            let outcome = match appended {
                Err(error) => Err(*error),
                Ok(appended) => match shard.partition.is_committed(appended.next_offset, appended.epoch) {
                    Ok(true) => Ok(()),
                    Ok(false) => return,
                    Err(error) => Err(of_partition(&error)),
                },
            };
            let id = *id;
            shard.stores.pop_front();
            let actions = shard.machine.handle_stored(self.now(env), id, outcome);
            self.perform(env, shard, actions);
        }
    }

    pub(super) fn tick_groups(&mut self, env: &mut Env) {
        let now = self.now(env);
        for partition in self.shards.keys().copied().collect::<Vec<_>>() {
            let Some(mut shard) = self.shards.remove(&partition) else { continue };
            if !shard.is_loaded {
                env.trace.tell(|| {
                    let log = shard.partition.with_open_log(|log| (log.end_offset(), log.durable_offset()));
                    let committed = shard.partition.high_watermark();
                    format!(
                        "broker {} waits for {:?} of {log:?}, {committed} is committed",
                        self.id, shard.load_to
                    )
                });
            }
            if shard.is_loaded && shard.machine.next_deadline_ms().is_some_and(|due| due <= now.mono_ms) {
                let actions = shard.machine.tick(now);
                self.perform(env, &mut shard, actions);
            }
            self.shards.insert(partition, shard);
        }
    }
}

fn store(partition: &Arc<Partition>, records: &[GroupRecord], wall_ms: i64) -> Result<Appended, StoreError> {
    let mut builder = Builder::new(Compression::None);
    for record in records {
        builder
            .append(wall_ms, Some(&record.key), record.value.as_deref(), &[])
            .map_err(|_| StoreError::TooLarge)?;
    }
    let batch = Bytes::from(builder.finish().map_err(|_| StoreError::Failed)?);
    let header = BatchHeader::parse(&batch).expect("a batch that was just built parses");
    let appended = partition.append_as_leader(&header, &batch[HEADER_BYTES..], Acks::All, wall_ms);
    appended.map_err(|error| of_partition(&error))
}

fn of_partition(error: &PartitionError) -> StoreError {
    match error {
        PartitionError::NotEnoughReplicas { .. } | PartitionError::NoSpace => StoreError::NotAvailable,
        _ => StoreError::NotCoordinator,
    }
}

/// All of the log up to the high watermark, in a new machine; `None` when it cannot be read now.
fn load(shard: &Shard, wall_ms: i64) -> Option<GroupShard> {
    let bounds = shard.partition.bounds(shard.epoch, wall_ms).ok()?;
    let mut machine = machine();
    let bytes = crate::history::read(&shard.partition, bounds.log_start_offset, bounds.high_watermark)?;
    let mut end = Offset(0);
    for batch in Batches::new(&bytes).verifying() {
        let batch = batch.expect("what is in the log can be read");
        end = batch.header().next_offset();
        let mut records = batch.records(DecompressLimit::default()).expect("records can be read");
        while let Some(record) = records.next_record().expect("a record can be read") {
            let key = record.key.expect("groups write keys");
            machine.replay(key, record.value, None).expect("groups read what they write");
        }
    }
    assert!(end >= bounds.high_watermark.min(end), "the log has all that is committed");
    Some(machine)
}
