//! Who belongs to the quorum, as `VotersRecord`s: the voters, those who only listen, then the voters of every further configuration of
//! a joint change. Where nobody listens and nothing is under way there is the first alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_protocol::generated::records::VotersRecord;
use ottla_protocol::generated::records::quorum::{Endpoint, VotersVoter};
use ottla_protocol::wire::{DecodeError, EncodeError, Message};

use super::{Membership, VoterEndpoint, VoterId, VoterNode};

/// Version in which the records are written.
const VERSION: i16 = 0;

/// Why records do not say who belongs to the quorum.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// A record is malformed.
    #[error("a record of voters is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A record cannot be written.
    #[error("a record of voters cannot be written: {0}")]
    Unwritable(#[from] EncodeError),
    /// They make no quorum.
    #[error("the records make no quorum: {0}")]
    NoQuorum(String),
}

/// The records.
pub(crate) fn encode(members: &Membership) -> Result<Vec<Bytes>, MembershipError> {
    let learners: BTreeSet<_> = members.learner_ids().collect();
    let mut configurations = members.get_joint_config().iter();
    let first = configurations.next().cloned().unwrap_or_default();
    let further: Vec<_> = configurations.cloned().collect();
    let mut groups = vec![first];
    if !learners.is_empty() || !further.is_empty() {
        groups.push(learners);
        groups.extend(further);
    }
    groups.iter().map(|group| record(group, members)).collect()
}

fn record(group: &BTreeSet<VoterId>, members: &Membership) -> Result<Bytes, MembershipError> {
    let voters = group.iter().map(|id| {
        let endpoints = members.get_node(id).map_or(&[][..], |node| &node.endpoints);
        let endpoints = endpoints.iter().map(|endpoint| Endpoint {
            name: endpoint.name.as_str().into(),
            host: endpoint.host.as_str().into(),
            port: endpoint.port,
            ..Endpoint::default()
        });
        VotersVoter {
            voter_id: id.id,
            voter_directory_id: id.directory_id,
            endpoints: endpoints.collect(),
            ..VotersVoter::default()
        }
    });
    let record = VotersRecord { voters: voters.collect(), ..VotersRecord::default() };
    Ok(record.encode(VERSION)?)
}

/// What the records say.
pub(crate) fn decode(records: Vec<Bytes>) -> Result<Membership, MembershipError> {
    let mut nodes = BTreeMap::new();
    let mut groups = Vec::new();
    for record in records {
        let record = VotersRecord::decode(record, VERSION)?;
        let mut group = BTreeSet::new();
        for voter in record.voters {
            let id = VoterId { id: voter.voter_id, directory_id: voter.voter_directory_id };
            let endpoints = voter.endpoints.into_iter().map(|endpoint| VoterEndpoint {
                name: endpoint.name.as_str().to_owned(),
                host: endpoint.host.as_str().to_owned(),
                port: endpoint.port,
            });
            nodes.insert(id, VoterNode { endpoints: endpoints.collect() });
            group.insert(id);
        }
        groups.push(group);
    }
    // The listeners are in `nodes`; the configurations are what else there is.
    if groups.len() > 1 {
        groups.remove(1);
    }
    Membership::new(groups, nodes).map_err(|error| MembershipError::NoQuorum(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::ids::Uuid;

    fn voter(id: i32) -> VoterId {
        VoterId { id, directory_id: Uuid([u8::try_from(id).unwrap(); 16]) }
    }

    fn node(id: i32) -> (VoterId, VoterNode) {
        let port = 9000 + u16::try_from(id).unwrap();
        let endpoint = VoterEndpoint { name: "CONTROLLER".to_owned(), host: "h".to_owned(), port };
        (voter(id), VoterNode { endpoints: vec![endpoint] })
    }

    fn members(configurations: &[&[i32]], nodes: &[i32]) -> Membership {
        let configurations = configurations.iter().map(|ids| ids.iter().copied().map(voter).collect());
        Membership::new(configurations.collect(), nodes.iter().copied().map(node).collect::<BTreeMap<_, _>>())
            .unwrap()
    }

    #[test]
    fn memberships_round_trip() {
        for (members, records) in [
            (members(&[&[1]], &[1]), 1),
            (members(&[&[1, 2, 3]], &[1, 2, 3]), 1),
            (members(&[&[1]], &[1, 2]), 2),
            (members(&[&[1], &[1, 2, 3]], &[1, 2, 3]), 3),
            (members(&[&[1, 2, 3], &[1, 2, 4]], &[1, 2, 3, 4, 5]), 3),
        ] {
            let encoded = encode(&members).unwrap();
            assert_eq!(encoded.len(), records, "{members:?}");
            assert_eq!(decode(encoded).unwrap(), members);
        }
    }

    #[test]
    fn what_is_no_membership_is_refused() {
        let decode = |bytes: &'static [u8]| decode(vec![Bytes::from_static(bytes)]).unwrap_err().to_string();
        assert!(decode(&[1]).contains("malformed"));
        // No voters at all.
        let nobody = VotersRecord::default().encode(VERSION).unwrap();
        assert!(super::decode(vec![nobody]).unwrap_err().to_string().contains("no quorum"));
    }
}
