//! The metadata quorum: who leads it, who votes, who follows.

use ottla_protocol::generated::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, RequestPartitionData, RequestTopicData,
};
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::Str;

use super::Admin;
use crate::ErrorCode;
use crate::error::{Error, check};

const DESCRIBE_QUORUM_VERSIONS: (i16, i16) = (0, 2);
/// The log that the quorum keeps, as Kafka names it.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The metadata quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The leader's node id; `None` while there is none.
    pub leader: Option<i32>,
    /// Rises with each election.
    pub leader_epoch: i32,
    /// The end of what is committed.
    pub high_watermark: i64,
    /// Those who vote.
    pub voters: Vec<QuorumNode>,
    /// Those who only follow.
    pub observers: Vec<QuorumNode>,
}

/// A node of the metadata quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumNode {
    /// Its node id.
    pub id: i32,
    /// Of its metadata directory; zero where the broker does not say.
    pub directory_id: Uuid,
    /// The end of its log, as its leader knows; -1 where unknown.
    pub log_end: i64,
    /// When it last asked the leader, in milliseconds since 1970; -1 where unknown.
    pub last_fetch_ms: i64,
    /// When it last had all that the leader had, in milliseconds since 1970; -1 where unknown.
    pub last_caught_up_ms: i64,
}

impl Admin {
    /// The metadata quorum.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the broker does not tell; [`Error::Refused`].
    pub async fn describe_quorum(&self) -> Result<Quorum, Error> {
        let topic = RequestTopicData {
            topic_name: Str::from(METADATA_TOPIC),
            partitions: vec![RequestPartitionData::default()],
            ..RequestTopicData::default()
        };
        let request = DescribeQuorumRequest { topics: vec![topic], ..DescribeQuorumRequest::default() };
        let refused = |code, message: Option<&Str>| Error::Refused {
            what: "DescribeQuorum".to_owned(),
            code,
            message: message.map(ToString::to_string),
        };
        let judge = |response: &DescribeQuorumResponse| {
            check(response.error_code, |code| refused(code, response.error_message.as_ref()))?;
            let said = response.topics.first().and_then(|topic| topic.partitions.first());
            let said = said.ok_or_else(|| refused(ErrorCode::UnknownServerError, None))?;
            check(said.error_code, |code| refused(code, said.error_message.as_ref()))
        };
        let response = self.ask_controller(&request, DESCRIBE_QUORUM_VERSIONS, judge).await?;
        let topic = response.topics.into_iter().next().expect("judged");
        let said = topic.partitions.into_iter().next().expect("judged");
        let node = |state: ottla_protocol::generated::describe_quorum::ReplicaState| QuorumNode {
            id: state.replica_id,
            directory_id: state.replica_directory_id,
            log_end: state.log_end_offset,
            last_fetch_ms: state.last_fetch_timestamp,
            last_caught_up_ms: state.last_caught_up_timestamp,
        };
        Ok(Quorum {
            leader: (said.leader_id >= 0).then_some(said.leader_id),
            leader_epoch: said.leader_epoch,
            high_watermark: said.high_watermark,
            voters: said.current_voters.into_iter().map(node).collect(),
            observers: said.observers.into_iter().map(node).collect(),
        })
    }
}
