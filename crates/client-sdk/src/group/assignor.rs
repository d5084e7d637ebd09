//! Who gets which partition: what the leader of a group decides. Pure: the same members and topics give the same answer.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::wire::Str;

use super::membership::Subscription;
use crate::offsets::TopicPartition;

/// How partitions are given out. All members of a group need one in common; its name is that of Java and librdkafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Each topic in runs of neighbours: members that read the same topics get the same indexes of each.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
    /// As even as can be, and each member keeps what it has where that is possible. If it is the only one of a member,
    /// the member goes on reading during a rebalance what it keeps.
    CooperativeSticky,
}

impl Assignor {
    pub(super) fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Assignor> {
        [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky]
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Gives the partitions of `topics` (name and count) to `members`; each member is in the answer.
    pub(super) fn assign(self, members: &[Member], topics: &BTreeMap<Str, i32>) -> Assignments {
        let mut members: Vec<&Member> = members.iter().collect();
        // Static members first, by their own ids, which outlive a restart: Java's order.
        members.sort_by(|a, b| {
            let key =
                |member: &Member| (member.instance.is_none(), member.instance.clone(), member.id.clone());
            key(a).cmp(&key(b))
        });
        match self {
            Assignor::Range => range(&members, topics),
            Assignor::RoundRobin => round_robin(&members, topics),
            Assignor::CooperativeSticky => cooperative_sticky(&members, topics),
        }
    }
}

/// A member as the leader sees it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub id: Str,
    pub instance: Option<Str>,
    pub subscription: Subscription,
}

/// By member id.
pub(super) type Assignments = BTreeMap<Str, Vec<TopicPartition>>;

fn nobody_has_any(members: &[&Member]) -> Assignments {
    members.iter().map(|member| (member.id.clone(), Vec::new())).collect()
}

fn range(members: &[&Member], topics: &BTreeMap<Str, i32>) -> Assignments {
    let mut given = nobody_has_any(members);
    for (topic, count) in topics {
        let readers: Vec<&&Member> =
            members.iter().filter(|member| member.subscription.topics.contains(topic)).collect();
        let Ok(readers_count) = i32::try_from(readers.len()) else { continue };
        let mut next = 0;
        for (place, reader) in (0..).zip(readers) {
            let share = count / readers_count + i32::from(place < count % readers_count);
            let run =
                (next..next + share).map(|partition| TopicPartition { topic: topic.clone(), partition });
            given.entry(reader.id.clone()).or_default().extend(run);
            next += share;
        }
    }
    given
}

fn all_partitions(topics: &BTreeMap<Str, i32>) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|(topic, count)| {
        (0..*count).map(|partition| TopicPartition { topic: topic.clone(), partition })
    })
}

fn round_robin(members: &[&Member], topics: &BTreeMap<Str, i32>) -> Assignments {
    let mut given = nobody_has_any(members);
    let mut turn = 0;
    for place in all_partitions(topics) {
        let reads = |member: &Member| member.subscription.topics.contains(&place.topic);
        let Some(skip) = (0..members.len()).find(|skip| reads(members[(turn + skip) % members.len()])) else {
            continue;
        };
        let member = members[(turn + skip) % members.len()];
        given.entry(member.id.clone()).or_default().push(place);
        turn = (turn + skip + 1) % members.len();
    }
    given
}

fn cooperative_sticky(members: &[&Member], topics: &BTreeMap<Str, i32>) -> Assignments {
    let readers: BTreeMap<&Str, Vec<&Str>> = topics
        .keys()
        .map(|topic| {
            let readers = members.iter().filter(|member| member.subscription.topics.contains(topic));
            (topic, readers.map(|member| &member.id).collect())
        })
        .collect();
    let owners = owners(members, topics);
    let mut given: BTreeMap<Str, BTreeSet<TopicPartition>> =
        members.iter().map(|member| (member.id.clone(), BTreeSet::new())).collect();
    let mut free = Vec::new();
    for place in all_partitions(topics) {
        match owners.get(&place).filter(|owner| readers[&place.topic].contains(owner)) {
            Some(owner) => {
                given.entry((*owner).clone()).or_default().insert(place);
            }
            None => free.push(place),
        }
    }
    for place in free {
        let least = readers[&place.topic].iter().min_by_key(|reader| given[**reader].len());
        if let Some(reader) = least {
            given.entry((**reader).clone()).or_default().insert(place);
        }
    }
    while let Some((place, from, to)) = improvement(&given, &readers) {
        given.entry(from).or_default().remove(&place);
        given.entry(to).or_default().insert(place);
    }
    // What another member still has is given only in the next round, after that one has let it go.
    for (member, places) in &mut given {
        places.retain(|place| owners.get(place).is_none_or(|owner| *owner == member));
    }
    given.into_iter().map(|(member, places)| (member, places.into_iter().collect())).collect()
}

/// Who has what now, as the members say; where several claim a partition, the one of the latest generation.
fn owners<'a>(members: &[&'a Member], topics: &BTreeMap<Str, i32>) -> BTreeMap<TopicPartition, &'a Str> {
    let mut owners: BTreeMap<TopicPartition, (i32, &Str)> = BTreeMap::new();
    let mut contested = BTreeSet::new();
    for member in members {
        let generation = member.subscription.generation;
        for place in &member.subscription.owned {
            if topics.get(&place.topic).is_none_or(|count| place.partition >= *count) {
                continue;
            }
            match owners.get(place) {
                Some((other, _)) if *other > generation => {}
                Some((other, _)) if *other == generation => {
                    contested.insert(place.clone());
                }
                _ => {
                    contested.remove(place);
                    owners.insert(place.clone(), (generation, &member.id));
                }
            }
        }
    }
    // Two who claim the same in the same generation are both wrong.
    owners
        .into_iter()
        .filter(|(place, _)| !contested.contains(place))
        .map(|(place, (_, id))| (place, id))
        .collect()
}

/// A move that makes the shares more even, if there is one. Each makes the sum of the squares of the shares smaller, so
/// they come to an end.
fn improvement(
    given: &BTreeMap<Str, BTreeSet<TopicPartition>>,
    readers: &BTreeMap<&Str, Vec<&Str>>,
) -> Option<(TopicPartition, Str, Str)> {
    let mut by_share: Vec<(&Str, &BTreeSet<TopicPartition>)> = given.iter().collect();
    by_share.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    for (from, places) in by_share {
        for place in places.iter().rev() {
            let least = readers[&place.topic].iter().min_by_key(|reader| given[**reader].len())?;
            if given[*least].len() + 1 < places.len() {
                return Some((place.clone(), from.clone(), (**least).clone()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, topics: &[&str], owned: &[(&str, i32)]) -> Member {
        let subscription = Subscription {
            topics: topics.iter().map(|topic| Str::from(*topic)).collect(),
            owned: owned.iter().map(|(topic, partition)| TopicPartition::new(topic, *partition)).collect(),
            generation: 1,
        };
        Member { id: Str::from(id), instance: None, subscription }
    }

    fn topics(list: &[(&str, i32)]) -> BTreeMap<Str, i32> {
        list.iter().map(|(topic, count)| (Str::from(*topic), *count)).collect()
    }

    fn shown(assignments: &Assignments) -> String {
        let member = |(id, places): (&Str, &Vec<TopicPartition>)| {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            format!("{id}: {}", places.join(" "))
        };
        assignments.iter().map(member).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn range_gives_runs_of_each_topic() {
        let members = [member("b", &["t", "u"], &[]), member("a", &["t"], &[])];
        let given = Assignor::Range.assign(&members, &topics(&[("t", 3), ("u", 2)]));
        assert_eq!(shown(&given), "a: t-0 t-1; b: t-2 u-0 u-1");
    }

    #[test]
    fn static_members_come_first() {
        let mut second = member("z", &["t"], &[]);
        second.instance = Some(Str::from("i"));
        let given = Assignor::Range.assign(&[member("a", &["t"], &[]), second], &topics(&[("t", 3)]));
        assert_eq!(shown(&given), "a: t-2; z: t-0 t-1");
    }

    #[test]
    fn round_robin_takes_turns_and_skips_who_does_not_read() {
        let members = [member("a", &["t", "u"], &[]), member("b", &["u"], &[])];
        let given = Assignor::RoundRobin.assign(&members, &topics(&[("t", 2), ("u", 3)]));
        assert_eq!(shown(&given), "a: t-0 t-1 u-1; b: u-0 u-2");
    }

    #[test]
    fn cooperative_sticky_moves_little_and_in_two_rounds() {
        let all = topics(&[("t", 4)]);
        let old = member("a", &["t"], &[("t", 0), ("t", 1), ("t", 2), ("t", 3)]);
        let given = Assignor::CooperativeSticky.assign(&[old, member("b", &["t"], &[])], &all);
        assert_eq!(shown(&given), "a: t-0 t-1; b: ", "b waits until a has let go");
        let old = member("a", &["t"], &[("t", 0), ("t", 1)]);
        let given = Assignor::CooperativeSticky.assign(&[old, member("b", &["t"], &[])], &all);
        assert_eq!(shown(&given), "a: t-0 t-1; b: t-2 t-3");
    }

    #[test]
    fn two_claims_of_one_generation_count_for_none() {
        let members = [member("a", &["t"], &[("t", 0)]), member("b", &["t"], &[("t", 0)])];
        let given = Assignor::CooperativeSticky.assign(&members, &topics(&[("t", 2)]));
        assert_eq!(given.values().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn shares_are_even_where_subscriptions_allow() {
        let members = [
            member("a", &["t", "u"], &[("t", 0), ("t", 1), ("t", 2), ("u", 0)]),
            member("b", &["u"], &[("u", 1)]),
            member("c", &["t"], &[]),
        ];
        let mut given = Assignor::CooperativeSticky.assign(&members, &topics(&[("t", 3), ("u", 2)]));
        given.values_mut().for_each(|places| places.sort());
        // a keeps what nobody else needs more; what moves is not given yet.
        assert!(given.values().map(Vec::len).sum::<usize>() >= 3, "{}", shown(&given));
        assert!(given[&Str::from("a")].len() <= 2, "{}", shown(&given));
    }
}
