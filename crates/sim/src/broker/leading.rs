//! A broker as the leader of partitions: what clients and followers ask, now or parked, and the ISR that is proposed.

use bytes::Bytes;
use ottla_cluster::replica::{DurableReport, Proposal, ProposalAnswer, ProposalError};
use ottla_partition::PartitionError;
use ottla_partition::append::{Acks, Appended};
use ottla_partition::read::ReadLimits;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchHeader, HEADER_BYTES};
use ottla_storage::log::LogSlice;

use super::Process;
use crate::env::Env;
use crate::history::History;
use crate::message::{
    Address, ClientAnswer, ClientRequest, Correlation, Failure, Given, Message, ReplicaAsked, ReplicaGiven,
    Tp,
};

/// How long a produce request waits for its records to be committed.
const PRODUCE_WAIT_US: u64 = 1_000_000;
/// How long a fetch waits for records.
const FETCH_WAIT_US: u64 = 500_000;
const LIMITS: ReadLimits = ReadLimits { max_bytes: 16 << 10, at_least_one_batch: true };

/// A produce request that waits for the high watermark.
pub(super) struct ParkedProduce {
    tp: Tp,
    appended: Appended,
    crc: u32,
    to: Address,
    correlation: Correlation,
    until_us: u64,
}

/// A consumer's fetch that waits for records.
pub(super) struct ParkedFetch {
    tp: Tp,
    offset: Offset,
    epoch: LeaderEpoch,
    to: Address,
    correlation: Correlation,
    until_us: u64,
}

/// A follower's fetch that waits for records.
pub(super) struct ParkedReplicaFetch {
    asked: Vec<ReplicaAsked>,
    to: Address,
    correlation: Correlation,
    until_us: u64,
}

impl Process {
    pub(super) fn asked(
        &mut self,
        env: &mut Env,
        from: Address,
        correlation: Correlation,
        request: ClientRequest,
    ) {
        let answer = match request {
            ClientRequest::Metadata => ClientAnswer::Metadata(self.leaders()),
            ClientRequest::Produce { tp, acks_all, batch } => {
                let (header, acks) = (
                    BatchHeader::parse(&batch).expect("clients send batches"),
                    if acks_all { Acks::All } else { Acks::Leader },
                );
                let appended = self.append(env, tp, &header, &batch[HEADER_BYTES..], acks);
                match appended {
                    Ok(appended) if acks_all => {
                        let until_us = env.now_us + PRODUCE_WAIT_US;
                        let crc = header.crc;
                        let to = from;
                        self.produces.push(ParkedProduce { tp, appended, crc, to, correlation, until_us });
                        return;
                    }
                    Ok(appended) => ClientAnswer::Produced(Ok(appended.base_offset)),
                    Err(error) => ClientAnswer::Produced(Err(failure(&error))),
                }
            }
            ClientRequest::Fetch { tp, offset, epoch } => {
                let until_us = env.now_us + FETCH_WAIT_US;
                self.fetches.push(ParkedFetch { tp, offset, epoch, to: from, correlation, until_us });
                return;
            }
            ClientRequest::Group { partition, request } => {
                return self.group_asked(env, from, correlation, partition, *request);
            }
            ClientRequest::Offsets { partition, group } => {
                ClientAnswer::Offsets(self.offsets_asked(partition, group))
            }
        };
        env.send(self.address(), from, Message::Answer(correlation, answer));
    }

    fn append(
        &mut self,
        env: &mut Env,
        tp: Tp,
        header: &BatchHeader,
        payload: &[u8],
        acks: Acks,
    ) -> Result<Appended, PartitionError> {
        let partition = self.partitions.get(&tp).ok_or(PartitionError::NotLeader)?;
        let appended = partition.append_as_leader(header, payload, acks, self.wall_ms(env));
        match &appended {
            Ok(appended) if appended.duplicate_of.is_some() => env.trace.count("duplicates"),
            Ok(_) => env.trace.count("appends"),
            Err(error) => env.trace.tell(|| format!("broker {} refuses a batch: {error}", self.id)),
        }
        appended
    }

    pub(super) fn answer_produces(&mut self, env: &mut Env, history: &mut History) {
        let me = self.address();
        let partitions = &self.partitions;
        self.produces.retain(|parked| {
            let Some(partition) = partitions.get(&parked.tp) else { return false };
            let (upto, epoch) = (parked.appended.next_offset, parked.appended.epoch);
            let answer = match partition.is_committed(upto, epoch) {
                Ok(true) => {
                    history.acknowledge(env, me, parked.tp, parked.appended.base_offset, parked.crc);
                    Ok(parked.appended.base_offset)
                }
                Ok(false) if env.now_us < parked.until_us => return true,
                Ok(false) | Err(_) => Err(Failure::Unknown),
            };
            env.send(me, parked.to, Message::Answer(parked.correlation, ClientAnswer::Produced(answer)));
            false
        });
    }

    pub(super) fn answer_fetches(&mut self, env: &mut Env) {
        let (me, now_ms) = (self.address(), self.wall_ms(env));
        let partitions = &self.partitions;
        self.fetches.retain(|parked| {
            let read = match partitions.get(&parked.tp) {
                Some(partition) => partition.read(parked.offset, LIMITS, parked.epoch, now_ms),
                None => Err(PartitionError::NotLeader),
            };
            let answer = match read {
                Ok(read) if read.slice.is_none() && env.now_us < parked.until_us => return true,
                Ok(read) => Ok((read.slice.map_or(Bytes::new(), |slice| whole(&slice)), read.high_watermark)),
                Err(error) => Err(failure(&error)),
            };
            env.send(me, parked.to, Message::Answer(parked.correlation, ClientAnswer::Fetched(answer)));
            false
        });
    }

    pub(super) fn replica_fetch(
        &mut self,
        env: &mut Env,
        from: Address,
        correlation: Correlation,
        asked: &[ReplicaAsked],
    ) {
        let given = self.give_all(env, asked);
        if given.iter().all(|given| is_nothing(&given.answer)) {
            let until_us = env.now_us + FETCH_WAIT_US;
            let asked = asked.to_vec();
            self.replica_fetches.push(ParkedReplicaFetch { asked, to: from, correlation, until_us });
        } else {
            env.send(self.address(), from, Message::ReplicaFetched(correlation, given));
        }
    }

    pub(super) fn answer_replica_fetches(&mut self, env: &mut Env) {
        for parked in std::mem::take(&mut self.replica_fetches) {
            let has_more = parked.asked.iter().any(|asked| self.has_more(asked));
            if has_more || parked.until_us <= env.now_us {
                let given = self.give_all(env, &parked.asked);
                env.send(self.address(), parked.to, Message::ReplicaFetched(parked.correlation, given));
            } else {
                self.replica_fetches.push(parked);
            }
        }
    }

    fn has_more(&self, asked: &ReplicaAsked) -> bool {
        let Some(partition) = self.partitions.get(&asked.tp) else { return true };
        let is_over = self.image.partition(asked.tp.0, asked.tp.1).is_none_or(|partition| {
            partition.leader != self.id || partition.leader_epoch != asked.fetch.leader_epoch
        });
        let end = partition.with_open_log(|log| log.end_offset());
        is_over || end.is_none_or(|end| end > asked.fetch.offset)
    }

    fn give_all(&self, env: &mut Env, asked: &[ReplicaAsked]) -> Vec<ReplicaGiven> {
        let given = asked.iter().map(|ReplicaAsked { tp, fetch }| ReplicaGiven {
            tp: *tp,
            fetch: *fetch,
            answer: self.give(env, *tp, fetch),
        });
        given.collect()
    }

    fn give(&self, env: &mut Env, tp: Tp, fetch: &ottla_cluster::replica::FollowerFetch) -> Given {
        let Some(partition) = self.partitions.get(&tp) else { return Given::Refused };
        let serving = |id| Self::serving(&self.image, id);
        match partition.read_for_follower(fetch, LIMITS, &serving, self.times(env)) {
            Ok(read) => match read.diverging {
                Some(diverging) => Given::Diverging { epoch: diverging.epoch, end: diverging.end },
                None => Given::Records {
                    batches: read.slice.map_or(Bytes::new(), |slice| whole(&slice)),
                    high_watermark: read.high_watermark,
                    log_start: read.log_start_offset,
                },
            },
            Err(PartitionError::OffsetOutOfRange { start, end, .. }) => Given::OutOfRange { start, end },
            Err(_) => Given::Refused,
        }
    }

    pub(super) fn durable_reports(&mut self, env: &mut Env, reports: &[(Tp, DurableReport)]) {
        for (tp, report) in reports {
            let Some(partition) = self.partitions.get(tp) else { continue };
            let serving = |id| Self::serving(&self.image, id);
            let taken = partition.handle_durable_report(report, &serving, self.times(env));
            if taken.is_err() {
                env.trace.count("reports refused");
            }
        }
    }

    pub(super) fn answer_proposal(
        &mut self,
        env: &mut Env,
        tp: Tp,
        proposal: &Proposal,
        answer: Result<ProposalAnswer, ProposalError>,
    ) {
        let Some(partition) = self.partitions.get(&tp) else { return };
        let serving = |id| Self::serving(&self.image, id);
        partition.handle_proposal_answer(proposal, answer, &serving, self.steady_ms(env));
    }

    /// What is due by time alone.
    pub(super) fn upkeep(&mut self, env: &mut Env) {
        let now_ms = self.steady_ms(env);
        for tp in std::mem::take(&mut self.ticking) {
            let Some(partition) = self.partitions.get(&tp) else { continue };
            let serving = |id| Self::serving(&self.image, id);
            if partition.tick(&serving, now_ms) {
                self.ticking.insert(tp);
            }
        }
        self.tick_groups(env);
        self.follow_all(env);
        if self.owner.directory.is_full() {
            // An error is met again with the next write.
            drop(self.owner.directory.has_room_again(4096));
        }
    }
}

fn is_nothing(given: &Given) -> bool {
    matches!(given, Given::Records { batches, .. } if batches.is_empty())
}

pub(super) fn whole(slice: &LogSlice) -> Bytes {
    let mut bytes = vec![0; slice.len_bytes()];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = slice.read_at(&mut bytes[filled..], filled).expect("files in memory can be read");
        assert!(read > 0, "a slice has all its bytes");
        filled += read;
    }
    Bytes::from(bytes)
}

fn failure(error: &PartitionError) -> Failure {
    match error {
        PartitionError::OutOfOrderSequence(_)
        | PartitionError::InvalidProducerEpoch(_)
        | PartitionError::InvalidTxnState(_) => Failure::OutOfOrder,
        PartitionError::OffsetOutOfRange { .. } => Failure::OutOfRange,
        _ => Failure::Retry,
    }
}
