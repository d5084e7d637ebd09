//! Which change of the quorum is due, decided from what its leader knows. Pure.
//!
//! The number of voters is odd after each change. A node that came back with another directory takes the place of the one it was, when
//! that one is not heard any more. Two who listen and wish to vote come in together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{VoterId, VoterNode};
use crate::limits::VOTERS_MAX;

/// What the leader knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knowledge {
    /// Who votes, in each configuration of a change that is under way.
    pub(crate) configurations: Vec<BTreeSet<VoterId>>,
    /// Who belongs to the quorum, with the addresses that the log has.
    pub(crate) nodes: BTreeMap<VoterId, VoterNode>,
    /// Who has been heard lately; the leader itself is among them.
    pub(crate) live: BTreeSet<VoterId>,
    /// Who has almost all of the log.
    pub(crate) caught_up: BTreeSet<VoterId>,
    /// Who has not been heard for so long that it need not be remembered unless it votes.
    pub(crate) gone: BTreeSet<VoterId>,
    /// Who asks to listen, and where it is reached.
    pub(crate) asking: BTreeMap<VoterId, VoterNode>,
    /// Who may become a voter without an administrator.
    pub(crate) willing: BTreeSet<VoterId>,
    /// Whom an administrator wants as a voter.
    pub(crate) to_add: BTreeSet<VoterId>,
    /// Whom an administrator wants as a voter no more.
    pub(crate) to_remove: BTreeSet<VoterId>,
}

/// A change of who belongs to the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These listen from now on.
    Listen(BTreeMap<VoterId, VoterNode>),
    /// These are reached elsewhere now.
    Move(BTreeMap<VoterId, VoterNode>),
    /// These, who do not vote, are forgotten.
    Forget(BTreeSet<VoterId>),
    /// These vote from now on, and nobody else does; who votes no more is forgotten.
    Vote(BTreeSet<VoterId>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |ids: Vec<&VoterId>| ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Listen(nodes) => write!(f, "to listen: {}", list(nodes.keys().collect())),
            Self::Move(nodes) => write!(f, "elsewhere: {}", list(nodes.keys().collect())),
            Self::Forget(ids) => write!(f, "forgotten: {}", list(ids.iter().collect())),
            Self::Vote(ids) => write!(f, "voters: {}", list(ids.iter().collect())),
        }
    }
}

/// The change that is due, if one is.
pub(crate) fn plan(know: &Knowledge) -> Option<Change> {
    let (first, last) = (know.configurations.first()?, know.configurations.last()?);
    if know.configurations.len() > 1 {
        // Whoever began it is gone; it must end.
        return can_decide(know, last).then(|| Change::Vote(last.clone()));
    }
    let is_new = |(id, _): &(&VoterId, &VoterNode)| !know.nodes.contains_key(id);
    let new: BTreeMap<_, _> =
        know.asking.iter().filter(is_new).map(|(id, node)| (*id, node.clone())).collect();
    if !new.is_empty() {
        return Some(Change::Listen(new));
    }
    let has_moved =
        |(id, node): &(&VoterId, &VoterNode)| know.nodes.get(id).is_some_and(|known| known != *node);
    let moved: BTreeMap<_, _> =
        know.asking.iter().filter(has_moved).map(|(id, node)| (*id, node.clone())).collect();
    if !moved.is_empty() {
        return Some(Change::Move(moved));
    }
    if let Some(voters) = next_voters(know, first)
        && can_decide(know, first)
        && can_decide(know, &voters)
    {
        return Some(Change::Vote(voters));
    }
    let is_kept = |id: &VoterId| {
        first.contains(id)
            || know.asking.contains_key(id)
            || know.live.contains(id)
            || know.to_add.contains(id)
    };
    let forgotten: BTreeSet<_> =
        know.gone.iter().filter(|id| know.nodes.contains_key(id) && !is_kept(id)).copied().collect();
    (!forgotten.is_empty()).then_some(Change::Forget(forgotten))
}

/// Whether a majority of `voters` is there: a change that nobody could finish would leave the quorum between two states.
fn can_decide(know: &Knowledge, voters: &BTreeSet<VoterId>) -> bool {
    voters.intersection(&know.live).count() * 2 > voters.len()
}

/// Other voters than now, an odd number of them; `None` when those there are shall stay.
fn next_voters(know: &Knowledge, now: &BTreeSet<VoterId>) -> Option<BTreeSet<VoterId>> {
    let is_ready = |id: &&VoterId| {
        !now.contains(id)
            && know.nodes.contains_key(id)
            && know.live.contains(id)
            && know.caught_up.contains(id)
    };
    let mut next = now.clone();
    for id in know.to_add.union(&know.willing).filter(is_ready) {
        // An administrator may replace one that lives; by itself a node replaces only one that is not heard.
        let is_replaced =
            |old: &&VoterId| old.id == id.id && (know.to_add.contains(id) || !know.live.contains(old));
        if let Some(old) = now.iter().find(is_replaced).copied()
            && next.remove(&old)
        {
            next.insert(*id);
        }
    }
    let is_free = |next: &BTreeSet<VoterId>, id: &VoterId| next.iter().all(|voter| voter.id != id.id);
    for id in &know.to_remove {
        next.remove(id);
    }
    for id in know.to_add.iter().filter(is_ready) {
        if is_free(&next, id) {
            next.insert(*id);
        }
    }
    let waiting: Vec<_> = know.willing.iter().filter(is_ready).copied().collect();
    let mut waiting = waiting.into_iter().filter(|id| !know.to_remove.contains(id));
    let mut partner = |next: &BTreeSet<VoterId>| waiting.find(|id| is_free(next, id));
    if next.len().is_multiple_of(2) {
        let id = partner(&next)?;
        next.insert(id);
    }
    while next.len() + 2 <= VOTERS_MAX {
        let Some(one) = partner(&next) else { break };
        let mut both = next.clone();
        both.insert(one);
        let Some(other) = partner(&both) else { break };
        both.insert(other);
        next = both;
    }
    (next != *now && !next.is_empty()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::ids::Uuid;

    /// `2` is node 2, `2'` the same with another directory.
    fn voter(name: &str) -> VoterId {
        let id = name.trim_end_matches('\'').parse().unwrap();
        VoterId { id, directory_id: Uuid([u8::try_from(name.len()).unwrap(); 16]) }
    }

    fn set(names: &str) -> BTreeSet<VoterId> {
        names.split_whitespace().map(voter).collect()
    }

    fn text(ids: &BTreeSet<VoterId>) -> String {
        let name = |id: &VoterId| match id.directory_id.0[0] {
            1 => format!("{}", id.id),
            _ => format!("{}'", id.id),
        };
        ids.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    /// Voters, listeners who are ready, who lives, who is willing, added, removed: and what follows.
    fn check(
        voters: &str,
        listeners: &str,
        live: &str,
        willing: &str,
        add_remove: (&str, &str),
        expected: &str,
    ) {
        let nodes = set(voters).union(&set(listeners)).map(|id| (*id, VoterNode::default())).collect();
        let know = Knowledge {
            configurations: vec![set(voters)],
            nodes,
            live: set(live),
            caught_up: set(listeners),
            willing: set(willing),
            to_add: set(add_remove.0),
            to_remove: set(add_remove.1),
            ..Knowledge::default()
        };
        let found = match plan(&know) {
            Some(Change::Vote(voters)) => text(&voters),
            None => String::new(),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{know:?}");
    }

    #[test]
    fn voters_are_an_odd_number() {
        let nothing = ("", "");
        check("1", "2", "1 2", "2", nothing, "");
        check("1", "2 3", "1 2 3", "2 3", nothing, "1 2 3");
        check("1", "2 3 4", "1 2 3 4", "2 3 4", nothing, "1 2 3");
        check("1", "2 3 4 5", "1 2 3 4 5", "2 3 4 5", nothing, "1 2 3 4 5");
        check("1 2 3 4 5", "6 7", "1 2 3 4 5 6 7", "6 7", nothing, "");
        // Those who may not vote by themselves, or are not heard.
        check("1", "2 3", "1 2 3", "2", nothing, "");
        check("1", "2 3", "1 2", "2 3", nothing, "");
    }

    #[test]
    fn a_wiped_node_takes_its_own_place_when_the_old_one_is_silent() {
        check("1 2 3", "3'", "1 2 3'", "3'", ("", ""), "1 2 3'");
        check("1 2 3", "3'", "1 2 3 3'", "3'", ("", ""), "");
        check("1 2 3", "3'", "1 2 3'", "", ("", ""), "");
        check("1 2 3", "3'", "1 2 3 3'", "", ("3'", ""), "1 2 3'");
        // Nobody could finish that.
        check("1 2 3", "3'", "1 3'", "3'", ("", ""), "");
    }

    #[test]
    fn an_administrators_changes_wait_for_a_partner() {
        check("1", "2 3", "1 2 3", "", ("2", ""), "");
        check("1", "2 3", "1 2 3", "", ("2 3", ""), "1 2 3");
        check("1", "2 3", "1 2 3", "3", ("2", ""), "1 2 3");
        check("1 2 3", "", "1 2 3", "", ("", "3"), "");
        check("1 2 3", "", "1 2 3", "", ("", "2 3"), "1");
        check("1 2 3", "4", "1 2 3 4", "", ("4", "2"), "1 3 4");
        check("1 2 3", "4", "1 2 3 4", "4", ("", "2"), "1 3 4");
        // Who was removed does not come back by itself.
        check("1 2 3", "4", "1 2 4", "4", ("", "4"), "");
    }

    #[test]
    fn who_asks_listens_and_who_is_gone_is_forgotten() {
        let (one, two) = (voter("1"), voter("2"));
        let mut know = Knowledge {
            configurations: vec![set("1")],
            nodes: [(one, VoterNode::default())].into(),
            live: set("1"),
            asking: [(two, VoterNode::default())].into(),
            ..Knowledge::default()
        };
        assert_eq!(plan(&know), Some(Change::Listen([(two, VoterNode::default())].into())));
        know.nodes.insert(two, VoterNode::default());
        assert_eq!(plan(&know), None);
        know.asking.clear();
        know.gone = set("2");
        assert_eq!(plan(&know), Some(Change::Forget(set("2"))));
        know.configurations = vec![set("1"), set("1 2 3")];
        assert_eq!(plan(&know), None, "2 and 3 are not there");
        know.live = set("1 2");
        assert_eq!(plan(&know), Some(Change::Vote(set("1 2 3"))));
    }
}
