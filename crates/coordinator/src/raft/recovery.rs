//! What a node that starts finds on disk: the state up to what is committed, the vote, the ends of the log.

use openraft::EntryPayload;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::{RaftLeaderId, RaftVote};
use ottla_protocol::ids::Uuid;

use super::disk::View;
use super::machine::{Grown, Replayed, check_features};
use super::snapshot::Snapshot;
use super::{Vote, VoterId, entry_id, from_log_entry, is_alone};
use crate::error::OpenError;
use crate::hard_state::HardState;
use crate::metadata_log::MetadataLog;

/// The state at the last entry that is known to be committed. Whoever is alone in the quorum commits what it has on disk.
pub(crate) fn replay(
    log: &MetadataLog,
    snapshot: Option<&Snapshot>,
    hard_state: &HardState,
    me: VoterId,
) -> Result<(Replayed, Grown), OpenError> {
    let mut replayed = Replayed::new(snapshot);
    check_features(&replayed.image)?;
    let mut grown = Grown::default();
    let mut next = replayed.image.index() + 1;
    if next < log.start() {
        return Err(OpenError::LogTooShort { end: next, committed: log.start() - 1 });
    }
    let mut members = replayed.membership.membership().clone();
    let mut held = Vec::new();
    while next < log.end() {
        let entries = log.read(next)?;
        if entries.is_empty() {
            return Err(OpenError::LogTooShort { end: next, committed: log.end() - 1 });
        }
        for entry in entries {
            let index = entry.index;
            next = index + 1;
            let entry = from_log_entry(entry).map_err(|error| OpenError::Membership { index, error })?;
            if let EntryPayload::Membership(said) = &entry.payload {
                members = said.clone();
            }
            grown.add(&entry);
            if index <= hard_state.committed {
                replayed.apply(entry)?;
            } else {
                held.push(entry);
            }
        }
    }
    if is_alone(&members, me) {
        for entry in held {
            replayed.apply(entry)?;
        }
    }
    Ok((replayed, grown))
}

/// The vote and the ends of the log.
pub(crate) fn view(log: &MetadataLog, hard_state: &HardState) -> Result<View, OpenError> {
    let purged = hard_state.purged.map(|purged| entry_id(purged.term, purged.index));
    let mut last = purged;
    if log.end() > log.start() {
        let read = log.read(log.end() - 1)?;
        last = read.first().map(|entry| entry_id(entry.term, entry.index)).or(purged);
    }
    Ok(View::new(vote(hard_state)?, last, purged))
}

fn vote(hard_state: &HardState) -> Result<Option<Vote>, OpenError> {
    if hard_state.voted_id < 0 {
        return Ok(None);
    }
    let directory_id = Uuid::parse(&hard_state.voted_directory_id).ok_or_else(|| {
        OpenError::Raft(format!("the vote names a directory {}", hard_state.voted_directory_id))
    })?;
    let voted = VoterId { id: hard_state.voted_id, directory_id };
    let leader = LeaderId::new(hard_state.term, voted);
    Ok(Some(Vote::from_leader_id(leader, hard_state.vote_granted == Some(true))))
}
