//! What leaders ask the controller for: proposals of ISRs, gathered into one AlterPartition after the other; and the ticks by which
//! leaders notice who is late.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_cluster::image::MetadataImage;
use ottla_cluster::replica::{Proposal, ProposalAnswer, ProposalError};
use ottla_partition::Partition;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::alter_partition::{
    AlterPartitionRequest, AlterPartitionResponse, BrokerState, RequestPartitionData, RequestTopicData,
    ResponsePartitionData,
};
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Uuid};

use super::{Shared, clock, serving_epoch};
use crate::control::Control;
use crate::topics::Topics;

/// How often leaders with a follower that lacks something look at the time.
const TICK: Duration = Duration::from_millis(100);
/// The pause before a request whose fate is unknown is sent again.
const AGAIN: Duration = Duration::from_millis(100);

/// The answer of the controller, or the code of who could not ask it.
pub type IsrAnswer<'a> = Pin<Box<dyn Future<Output = Result<AlterPartitionResponse, ErrorCode>> + Send + 'a>>;

/// The way to the controller.
pub trait IsrController: Send + Sync {
    /// Sends AlterPartition.
    fn alter_partition(&self, request: AlterPartitionRequest) -> IsrAnswer<'_>;
}

impl IsrController for Control {
    fn alter_partition(&self, request: AlterPartitionRequest) -> IsrAnswer<'_> {
        Box::pin(Control::alter_partition(self, request))
    }
}

type Proposed = Vec<(Arc<Partition>, Proposal)>;

/// Sends proposals, one request at a time, until the stop.
pub(super) async fn propose(shared: Arc<Shared>, controller: Arc<dyn IsrController>) {
    loop {
        tokio::select! {
            () = shared.outbox.proposed() => {}
            () = shared.stop.cancelled() => return,
        }
        let proposed = shared.outbox.take_proposals();
        if proposed.is_empty() {
            continue;
        }
        let request = request(&shared, &proposed);
        let answer = tokio::select! {
            answer = controller.alter_partition(request) => answer,
            () = shared.stop.cancelled() => return,
        };
        let answers = answers_of(&answer);
        let image = shared.image.borrow().clone();
        let serving = |id| serving_epoch(&image, id);
        let mut is_unknown = false;
        for (partition, proposal) in proposed {
            let key = (partition.key().topic_id, partition.key().index);
            let answer = answers.get(&key).cloned().unwrap_or(Err(ProposalError::Unknown));
            is_unknown |= answer == Err(ProposalError::Unknown);
            partition.handle_proposal_answer(&proposal, answer, &serving, clock::steady_ms());
        }
        if is_unknown {
            tracing::debug!(error = ?answer.err(), "an ISR was proposed and the outcome is not known");
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = shared.stop.cancelled() => return,
            }
        }
    }
}

fn request(shared: &Shared, proposed: &Proposed) -> AlterPartitionRequest {
    let mut topics: BTreeMap<Uuid, RequestTopicData> = BTreeMap::new();
    for (partition, proposal) in proposed {
        let key = partition.key();
        let member = |(id, epoch): &(BrokerId, i64)| BrokerState {
            broker_id: id.0,
            broker_epoch: *epoch,
            ..BrokerState::default()
        };
        let topic = topics
            .entry(key.topic_id)
            .or_insert_with(|| RequestTopicData { topic_id: key.topic_id, ..RequestTopicData::default() });
        topic.partitions.push(RequestPartitionData {
            partition_index: key.index,
            leader_epoch: proposal.leader_epoch.0,
            partition_epoch: proposal.partition_epoch,
            new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
            ..RequestPartitionData::default()
        });
    }
    AlterPartitionRequest {
        broker_id: shared.me.0,
        broker_epoch: shared.broker_epoch(),
        topics: topics.into_values().collect(),
        ..AlterPartitionRequest::default()
    }
}

type Answers = BTreeMap<(Uuid, i32), Result<ProposalAnswer, ProposalError>>;

fn answers_of(answer: &Result<AlterPartitionResponse, ErrorCode>) -> Answers {
    let Ok(response) = answer else { return Answers::new() };
    if response.error_code != 0 {
        return Answers::new();
    }
    let all = response.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic_id, p)));
    all.map(|(topic_id, partition)| ((topic_id, partition.partition_index), answer_of(partition))).collect()
}

/// What an error code says of a proposal's fate. A code that is not listed leaves it unknown.
fn answer_of(partition: &ResponsePartitionData) -> Result<ProposalAnswer, ProposalError> {
    match ErrorCode::from_code(partition.error_code) {
        Some(ErrorCode::None) => Ok(ProposalAnswer {
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.iter().copied().map(BrokerId).collect(),
        }),
        Some(ErrorCode::IneligibleReplica | ErrorCode::OperationNotAttempted | ErrorCode::InvalidRequest) => {
            Err(ProposalError::Refused)
        }
        Some(
            ErrorCode::FencedLeaderEpoch
            | ErrorCode::InvalidUpdateVersion
            | ErrorCode::NewLeaderElected
            | ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopicOrPartition,
        ) => Err(ProposalError::Stale),
        _ => Err(ProposalError::Unknown),
    }
}

/// Ticks the partitions that want it, and those that miss a replica when its broker serves again, until the stop.
pub(super) async fn tick(shared: Arc<Shared>, topics: Arc<Topics>) {
    let mut ticking: Vec<Arc<Partition>> = Vec::new();
    let mut images = shared.image.clone();
    let mut served = BTreeMap::new();
    loop {
        tokio::select! {
            () = shared.outbox.ticks_wanted(), if ticking.is_empty() => {}
            () = tokio::time::sleep(TICK), if !ticking.is_empty() => {}
            changed = images.changed() => {
                let before = std::mem::replace(&mut served, serving_brokers(&images.borrow_and_update()));
                if changed.is_err() {
                    return;
                }
                if served.iter().all(|(id, epoch)| before.get(id) == Some(epoch)) {
                    continue;
                }
                ticking.extend(with_outsiders(&topics));
                // None is to be there twice.
                ticking.sort_by_key(Arc::as_ptr);
                ticking.dedup_by(|one, other| Arc::ptr_eq(one, other));
            }
            () = shared.stop.cancelled() => return,
        }
        ticking.extend(shared.outbox.take_ticking());
        let image = shared.image.borrow().clone();
        let serving = |id| serving_epoch(&image, id);
        let steady_ms = clock::steady_ms();
        ticking.retain(|partition| partition.tick(&serving, steady_ms));
    }
}

fn serving_brokers(image: &MetadataImage) -> BTreeMap<BrokerId, i64> {
    image.brokers().filter_map(|broker| Some((broker.id, serving_epoch(image, broker.id)?))).collect()
}

fn with_outsiders(topics: &Topics) -> Vec<Arc<Partition>> {
    let mut found = Vec::new();
    for topic in topics.all() {
        let partitions = topic.partitions().map(|(_, partition)| partition);
        found.extend(partitions.filter(|partition| partition.has_outsiders()).cloned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_no_effect_for_certain_is_told_from_what_nobody_knows() {
        let of = |code: ErrorCode| {
            answer_of(&ResponsePartitionData { error_code: code.code(), ..ResponsePartitionData::default() })
                .map(|_| ())
        };
        assert_eq!(of(ErrorCode::None), Ok(()));
        assert_eq!(of(ErrorCode::IneligibleReplica), Err(ProposalError::Refused));
        assert_eq!(of(ErrorCode::InvalidUpdateVersion), Err(ProposalError::Stale));
        assert_eq!(of(ErrorCode::NotController), Err(ProposalError::Unknown));
        assert!(answers_of(&Err(ErrorCode::RequestTimedOut)).is_empty(), "nothing is said of any");
    }
}
