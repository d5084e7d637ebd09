//! ReportDurable: a follower tells what it has on disk, which may commit what producers wait for. Never answered: what is refused here
//! belongs to a leadership or a life that is over, and the next one begins with a report.

use ottla_cluster::replica::DurableReport;
use ottla_protocol::generated::report_durable::ReportDurableRequest;
use ottla_protocol::ids::{BrokerId, LeaderEpoch, Offset};

use crate::replication::{clock, serving_epoch};
use crate::state::State;

/// Takes a report in.
pub fn handle(state: &State, request: &ReportDurableRequest) {
    let image = state.image();
    let serving = |id| serving_epoch(&image, id);
    let now = clock::now();
    for topic in &request.topics {
        let Some(served) = state.topics.get(topic.topic_id) else { continue };
        for told in &topic.partitions {
            let Ok(partition) = served.partition(told.partition_index) else { continue };
            let report = DurableReport {
                id: BrokerId(request.broker_id),
                broker_epoch: request.broker_epoch,
                leader_epoch: LeaderEpoch(told.leader_epoch),
                durable: Offset(told.durable_offset),
            };
            if let Err(error) = partition.handle_durable_report(&report, &serving, now) {
                tracing::debug!(partition = %partition.key(), %error, "a durable report is not taken");
            }
        }
    }
}
