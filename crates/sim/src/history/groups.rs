//! What a group coordinator answers from is what a replay of its log makes, and a committed offset that was acknowledged stays.

use ottla_cluster::groups::GroupShard;
use ottla_protocol::generated::offset_fetch::OffsetFetchRequestGroup;

use super::History;
use crate::env::Env;
use crate::message::Tp;

impl History {
    /// Compares a live machine with one that was loaded just now.
    pub(crate) fn compare_groups(
        &mut self,
        env: &mut Env,
        tp: Tp,
        live: &GroupShard,
        fresh: Option<&GroupShard>,
    ) {
        let Some(fresh) = fresh else { return };
        env.trace.count("group comparisons");
        for group in crate::client::GROUPS {
            let all = OffsetFetchRequestGroup { group_id: (*group).into(), ..Default::default() };
            let mut answers = [live, fresh].map(|machine| machine.fetch_offsets(&all, true));
            for answer in &mut answers {
                answer.topics.sort_by(|one, two| one.name.cmp(&two.name));
                answer
                    .topics
                    .iter_mut()
                    .for_each(|topic| topic.partitions.sort_by_key(|partition| partition.partition_index));
            }
            let [live, fresh] = answers;
            if live != fresh {
                let what = format!("groups: {group} of {} has {live:?}, its log says {fresh:?}", tp.1);
                self.violate(env, what);
            }
        }
    }
}

impl History {
    /// A member of the group was given its partition: that is stored, so no other member can ever have it in that generation.
    pub(crate) fn assigned(
        &mut self,
        env: &mut Env,
        generation: i32,
        partition: Option<i32>,
        member: &ottla_protocol::wire::Str,
    ) {
        env.trace.count("assignments");
        let Some(partition) = partition else { return };
        let known = self.assigned.entry((generation, partition)).or_insert_with(|| member.to_string());
        if known.as_str() != member.as_str() {
            let what =
                format!("groups: {known} and {member} have partition {partition} in generation {generation}");
            self.violate(env, what);
        }
    }
}
