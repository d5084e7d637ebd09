//! ElectLeaders: preferred leaders (KIP-183) or, on request, unclean ones (KIP-460).

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use ottla_protocol::wire::Str;

use super::partition_change::{Election, NO_LEADER, PartitionChange};
use super::{Controller, Outcome, Refusal};
use crate::image::MetadataRecord;

/// `ElectionType` of an election of preferred leaders.
const PREFERRED: i8 = 0;
/// `ElectionType` of an election in which records may be lost.
const UNCLEAN: i8 = 1;

impl Controller<'_> {
    /// Elects leaders of the named partitions, or of all that need it.
    pub fn elect_leaders(&mut self, request: &ElectLeadersRequest) -> Outcome<ElectLeadersResponse> {
        let election = match request.election_type {
            PREFERRED => Election::Preferred,
            UNCLEAN => Election::Forced,
            _ => {
                let error_code = ErrorCode::InvalidRequest.code();
                let response = ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() };
                return Outcome { records: Vec::new(), response };
            }
        };
        let named = request.topic_partitions.as_ref();
        let wanted: Vec<(Str, Vec<i32>)> = match named {
            Some(topics) => topics.iter().map(|t| (t.topic.detached(), t.partitions.clone())).collect(),
            None => {
                let all = self.image.topics();
                all.map(|t| (Str::from(&*t.name), t.partitions().map(|(n, _)| n).collect())).collect()
            }
        };
        let mut records = Vec::new();
        let mut results = Vec::new();
        for (topic, partitions) in wanted {
            let mut answers = Vec::new();
            for number in partitions {
                let elected = self.elect(&topic, number, election);
                if named.is_none() && matches!(elected, Err((ErrorCode::ElectionNotNeeded, _))) {
                    continue;
                }
                answers.push(answer(number, elected.map(|record| records.push(record))));
            }
            if named.is_some() || !answers.is_empty() {
                results.push(ReplicaElectionResult {
                    topic,
                    partition_result: answers,
                    ..ReplicaElectionResult::default()
                });
            }
        }
        let response =
            ElectLeadersResponse { replica_election_results: results, ..ElectLeadersResponse::default() };
        Outcome { records, response }
    }

    fn elect(&mut self, topic: &str, number: i32, election: Election) -> Result<MetadataRecord, Refusal> {
        let unknown = |what: String| (ErrorCode::UnknownTopicOrPartition, what);
        let found = self.image.topic_by_name(topic);
        let image = found.ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
        let partition = image
            .partition(number)
            .ok_or_else(|| unknown(format!("No such partition as {topic}-{number}")))?;
        let is_preferred = partition.replicas.first() == Some(&partition.leader);
        let (needed, unavailable) = match election {
            Election::Preferred => (!is_preferred, ErrorCode::PreferredLeaderNotAvailable),
            Election::Clean | Election::Unclean | Election::Forced => {
                (partition.leader == NO_LEADER, ErrorCode::EligibleLeadersNotAvailable)
            }
        };
        if !needed {
            return Err((
                ErrorCode::ElectionNotNeeded,
                "Leader election not needed for topic partition.".into(),
            ));
        }
        let mut change = PartitionChange::new(&self.image, image.id, number, partition);
        change.set_election(election);
        let text = || format!("No eligible leader is available for {topic}-{number}");
        let record = MetadataRecord::from(change.record().ok_or_else(|| (unavailable, text()))?);
        self.decided(std::slice::from_ref(&record));
        Ok(record)
    }
}

fn answer(partition_id: i32, elected: Result<(), Refusal>) -> PartitionResult {
    let (error_code, error_message) = elected.map_or_else(super::code_and_message, |()| (0, None));
    PartitionResult { partition_id, error_code, error_message, ..PartitionResult::default() }
}
