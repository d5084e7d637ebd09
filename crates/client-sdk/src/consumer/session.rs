//! A fetch session (KIP-227): the broker remembers the partitions of a fetcher, and a request says only what changed.

use std::collections::BTreeMap;

use ottla_protocol::generated::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};

use super::assignment::Wanted;
use crate::offsets::TopicPartition;

/// The first version with sessions.
const SESSIONS_SINCE: i16 = 7;
/// The epoch of a request outside of any session.
const NO_SESSION: i32 = -1;

/// What the broker remembers.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    /// 0 asks for a new session.
    epoch: i32,
    known: BTreeMap<TopicPartition, (i64, i32)>,
}

impl Session {
    /// Puts into `request` what has to be said so that the broker fetches what is wanted. With what `answered` gives, the
    /// next request builds on this one.
    pub fn fill(&mut self, request: &mut FetchRequest, wanted: &[Wanted], version: i16, bytes_max: i32) {
        let sessions = version >= SESSIONS_SINCE;
        if !sessions {
            self.known.clear();
        }
        request.session_id = if sessions { self.id } else { 0 };
        request.session_epoch = if sessions { self.epoch } else { NO_SESSION };
        for one in wanted {
            let state = (one.fetch_offset, one.leader_epoch);
            if self.known.get(&one.place) == Some(&state) {
                continue;
            }
            self.known.insert(one.place.clone(), state);
            let partition = FetchPartition {
                partition: one.place.partition,
                current_leader_epoch: one.leader_epoch,
                fetch_offset: one.fetch_offset,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: bytes_max,
                ..FetchPartition::default()
            };
            match request.topics.iter_mut().find(|topic| topic.topic == one.place.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => request.topics.push(FetchTopic {
                    topic: one.place.topic.clone(),
                    partitions: vec![partition],
                    ..FetchTopic::default()
                }),
            }
        }
        self.forget(request, wanted);
    }

    fn forget(&mut self, request: &mut FetchRequest, wanted: &[Wanted]) {
        let gone: Vec<TopicPartition> = self
            .known
            .keys()
            .filter(|place| !wanted.iter().any(|one| one.place == **place))
            .cloned()
            .collect();
        for place in gone {
            self.known.remove(&place);
            match request.forgotten_topics_data.iter_mut().find(|topic| topic.topic == place.topic) {
                Some(topic) => topic.partitions.push(place.partition),
                None => request.forgotten_topics_data.push(ForgottenTopic {
                    topic: place.topic,
                    partitions: vec![place.partition],
                    ..ForgottenTopic::default()
                }),
            }
        }
    }

    /// The broker has answered with this session.
    pub fn answered(&mut self, id: i32) {
        if id == 0 {
            self.reset();
        } else {
            self.id = id;
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
    }

    /// The broker does not remember, or nobody knows what it remembers.
    pub fn reset(&mut self) {
        *self = Session::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partition: i32, fetch_offset: i64) -> Wanted {
        Wanted { place: TopicPartition::new("t", partition), fetch_offset, leader_epoch: 0, version: 1 }
    }

    fn said(session: &mut Session, wanted: &[Wanted]) -> (i32, Vec<(i32, i64)>, Vec<i32>) {
        let mut request = FetchRequest::default();
        session.fill(&mut request, wanted, 12, 1000);
        let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
        let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
        (request.session_epoch, asked.map(|p| (p.partition, p.fetch_offset)).collect(), forgotten.collect())
    }

    #[test]
    fn only_changes_are_said() {
        let mut session = Session::default();
        assert_eq!(said(&mut session, &[wanted(0, 5), wanted(1, 7)]), (0, vec![(0, 5), (1, 7)], vec![]));
        session.answered(9);
        assert_eq!(said(&mut session, &[wanted(0, 6), wanted(1, 7)]), (1, vec![(0, 6)], vec![]));
        session.answered(9);
        assert_eq!(said(&mut session, &[wanted(1, 7)]), (2, vec![], vec![0]));
        session.reset();
        assert_eq!(said(&mut session, &[wanted(1, 7)]), (0, vec![(1, 7)], vec![]));
        session.answered(0);
        assert_eq!(said(&mut session, &[wanted(1, 7)]), (0, vec![(1, 7)], vec![]));
    }
}
