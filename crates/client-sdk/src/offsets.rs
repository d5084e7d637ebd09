//! Places in a partition's log: by name, by time, by number.

use std::collections::BTreeMap;
use std::fmt;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic,
};
use ottla_protocol::wire::Str;

use crate::client::Client;
use crate::consumer::Isolation;
use crate::error::{Error, check};
use crate::retry::Retries;

const LIST_OFFSETS_VERSIONS: (i16, i16) = (1, 8);
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's index.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition by name and index.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: Str::from(topic), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record of the log.
    Beginning,
    /// Behind the last record that the isolation shows.
    End,
    /// This offset.
    Offset(i64),
    /// The first record of this time (milliseconds since 1970) or later; the end when there is none.
    Timestamp(i64),
}

/// What a broker found for a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; the end of the log when no record is as late as asked for.
    pub offset: i64,
    /// The timestamp of the record found, where one was asked for by time and found.
    pub timestamp_ms: Option<i64>,
}

/// One try: what each leader answers. Partitions without a known leader get a retriable error.
pub(crate) async fn find_once(
    client: &Client,
    wanted: &[(TopicPartition, Position)],
    isolation: Isolation,
) -> Vec<(TopicPartition, Result<FoundOffset, Error>)> {
    let cluster = client.cluster();
    let mut found = Vec::with_capacity(wanted.len());
    let mut by_leader: BTreeMap<i32, Vec<(TopicPartition, Position)>> = BTreeMap::new();
    for (place, position) in wanted {
        if let Position::Offset(offset) = position {
            found.push((place.clone(), Ok(FoundOffset { offset: *offset, timestamp_ms: None })));
            continue;
        }
        let known = cluster.topics.get(place.topic.as_str()).map(|known| &known.topic);
        let leader = known.and_then(|topic| topic.partition(place.partition)).and_then(|p| p.leader);
        match leader {
            Some(leader) => by_leader.entry(leader).or_default().push((place.clone(), *position)),
            None => {
                let code = ErrorCode::LeaderNotAvailable;
                found.push((place.clone(), Err(Error::partition(&place.topic, place.partition, code))));
            }
        }
    }
    for (leader, places) in by_leader {
        let asked = ask(client, leader, &places, isolation).await;
        found.extend(answers(&places, &asked));
        let missing: Vec<_> = missing(&places, &asked);
        if !missing.is_empty() {
            // No record is as late as asked for: the end.
            let asked = ask(client, leader, &missing, isolation).await;
            found.extend(answers(&missing, &asked));
        }
    }
    found
}

/// Tries until all are found or the client's limit of a call has passed.
///
/// # Errors
/// The first that no retry cures.
pub(crate) async fn find(
    client: &Client,
    wanted: &[(TopicPartition, Position)],
    isolation: Isolation,
) -> Result<BTreeMap<TopicPartition, FoundOffset>, Error> {
    let mut retries = Retries::new("looking up offsets", client.call_max());
    let mut found = BTreeMap::new();
    let mut left = wanted.to_vec();
    for (place, _) in wanted {
        let topic = client.topic(&place.topic).await?;
        if topic.partition(place.partition).is_none() {
            return Err(Error::NoSuchPartition {
                topic: place.topic.to_string(),
                partition: place.partition,
                count: topic.partitions_count(),
            });
        }
    }
    loop {
        let mut last = None;
        for (place, answer) in find_once(client, &left, isolation).await {
            match answer {
                Ok(offset) => {
                    left.retain(|(other, _)| *other != place);
                    found.insert(place, offset);
                }
                Err(error) => last = Some(error),
            }
        }
        let Some(error) = last else { return Ok(found) };
        retries.pause(error).await?;
        let mut topics: Vec<Str> = left.iter().map(|(place, _)| place.topic.clone()).collect();
        topics.dedup();
        client.refresh(&topics, false, client.cluster().generation, retries.left()).await?;
    }
}

async fn ask(
    client: &Client,
    leader: i32,
    places: &[(TopicPartition, Position)],
    isolation: Isolation,
) -> Result<ListOffsetsResponse, Error> {
    let mut request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation.code(),
        ..ListOffsetsRequest::default()
    };
    for (place, position) in places {
        let partition = ListOffsetsPartition {
            partition_index: place.partition,
            current_leader_epoch: -1,
            timestamp: match position {
                Position::Beginning => EARLIEST,
                Position::End | Position::Offset(_) => LATEST,
                Position::Timestamp(timestamp) => *timestamp,
            },
            ..ListOffsetsPartition::default()
        };
        match request.topics.iter_mut().find(|topic| topic.name == place.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => request.topics.push(ListOffsetsTopic {
                name: place.topic.clone(),
                partitions: vec![partition],
                ..ListOffsetsTopic::default()
            }),
        }
    }
    let (response, _) = client.call_broker(leader, &request, LIST_OFFSETS_VERSIONS).await?;
    Ok(response)
}

fn said<'a>(
    place: &TopicPartition,
    response: &'a ListOffsetsResponse,
) -> Option<&'a ListOffsetsPartitionResponse> {
    let topic = response.topics.iter().find(|topic| topic.name == place.topic)?;
    topic.partitions.iter().find(|partition| partition.partition_index == place.partition)
}

/// Those by time for which there is no record.
fn missing(
    places: &[(TopicPartition, Position)],
    asked: &Result<ListOffsetsResponse, Error>,
) -> Vec<(TopicPartition, Position)> {
    let Ok(response) = asked else { return Vec::new() };
    let is_missing = |place: &TopicPartition| {
        said(place, response).is_some_and(|said| said.error_code == 0 && said.offset < 0)
    };
    let missing = places.iter().filter(|(place, _)| is_missing(place));
    missing.map(|(place, _)| (place.clone(), Position::End)).collect()
}

fn answers(
    places: &[(TopicPartition, Position)],
    asked: &Result<ListOffsetsResponse, Error>,
) -> Vec<(TopicPartition, Result<FoundOffset, Error>)> {
    let answer = |place: &TopicPartition| -> Option<Result<FoundOffset, Error>> {
        let response = match asked {
            Ok(response) => response,
            Err(error) => return Some(Err(error.clone())),
        };
        let refused = |code| Error::partition(&place.topic, place.partition, code);
        let Some(said) = said(place, response) else {
            return Some(Err(refused(ErrorCode::UnknownServerError)));
        };
        if let Err(error) = check(said.error_code, refused) {
            return Some(Err(error));
        }
        (said.offset >= 0).then_some(Ok(FoundOffset {
            offset: said.offset,
            timestamp_ms: (said.timestamp >= 0).then_some(said.timestamp),
        }))
    };
    places.iter().filter_map(|(place, _)| Some((place.clone(), answer(place)?))).collect()
}
