//! What comes out of a shard, as text.

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::join_group::JoinGroupResponse;
use ottla_protocol::generated::offset_fetch::OffsetFetchRequestGroup;
use ottla_protocol::generated::records::group::{GroupMetadataValue, OffsetCommitValue};

use super::shape::{partitions_text, topics_text};
use crate::groups::record::{Key, read_key, read_value};
use crate::groups::{GroupRecord, GroupShard, Reply};

pub(super) fn code(code: i16) -> &'static str {
    ErrorCode::from_code(code).expect("a code of the table").name()
}

pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Join(response) => joined(response),
        Reply::Sync(r) if r.error_code != 0 => format!("sync {}", code(r.error_code)),
        Reply::Sync(r) => format!("sync [{}]", partitions_text(&r.assignment)),
        Reply::Heartbeat(r) => format!("heartbeat {}", code(r.error_code)),
        Reply::Leave(r) => {
            let members = r.members.iter().map(|m| {
                let instance = m.group_instance_id.as_ref().map(|i| format!("/{i}")).unwrap_or_default();
                format!(" {}{instance}:{}", m.member_id, code(m.error_code))
            });
            format!("leave {}{}", code(r.error_code), members.collect::<String>())
        }
        Reply::Commit(r) => {
            let partitions = r.topics.iter().flat_map(|t| {
                t.partitions
                    .iter()
                    .map(|p| format!(" {}-{}:{}", t.name, p.partition_index, code(p.error_code)))
            });
            format!("commit{}", partitions.collect::<String>())
        }
        Reply::DeleteOffsets(r) => {
            let partitions = r.topics.iter().flat_map(|t| {
                t.partitions
                    .iter()
                    .map(|p| format!(" {}-{}:{}", t.name, p.partition_index, code(p.error_code)))
            });
            format!("delete-offsets {}{}", code(r.error_code), partitions.collect::<String>())
        }
        Reply::DeleteGroup(code) => format!("delete {}", code.name()),
    }
}

fn joined(r: &JoinGroupResponse) -> String {
    if r.error_code != 0 {
        return format!("join {} id={}", code(r.error_code), r.member_id);
    }
    let protocol = r.protocol_name.as_deref().unwrap_or("null");
    let mut out = format!("join gen={} {protocol} id={} leader={}", r.generation_id, r.member_id, r.leader);
    for member in &r.members {
        let instance = member.group_instance_id.as_ref().map(|i| format!("/{i}")).unwrap_or_default();
        out.push_str(&format!(" {}{instance}({})", member.member_id, topics_text(&member.metadata)));
    }
    if r.skip_assignment {
        out.push_str(" skip");
    }
    out
}

pub(super) fn record(record: &GroupRecord) -> String {
    match read_key(&record.key).expect("our own key") {
        Key::Other => "store other".to_owned(),
        Key::Offset { group_id, key: (topic, partition) } => match &record.value {
            None => format!("store {group_id} {topic}-{partition} gone"),
            Some(value) => {
                let value: OffsetCommitValue = read_value(value).expect("our own value");
                let epoch =
                    if value.leader_epoch < 0 { String::new() } else { format!("@{}", value.leader_epoch) };
                format!("store {group_id} {topic}-{partition}:{}{epoch}", value.offset)
            }
        },
        Key::Group(group_id) => match &record.value {
            None => format!("store {group_id} gone"),
            Some(value) => group_value(&group_id, &read_value(value).expect("our own value")),
        },
    }
}

fn group_value(group_id: &str, value: &GroupMetadataValue) -> String {
    let mut out = format!("store {group_id} gen={}", value.generation);
    if let (Some(protocol), Some(leader)) = (&value.protocol, &value.leader) {
        out.push_str(&format!(" {protocol} leader={leader}"));
    }
    for member in &value.members {
        out.push_str(&format!(" {}[{}]", member.member_id, partitions_text(&member.assignment)));
    }
    out
}

pub(super) struct Show<'a> {
    pub shard: &'a GroupShard,
}

impl Show<'_> {
    pub(super) fn fetched(&self, group: &OffsetFetchRequestGroup, require_stable: bool) -> Vec<String> {
        let response = self.shard.fetch_offsets(group, require_stable);
        let partitions = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|p| {
                let mut out = format!("{}-{}:{}", topic.name, p.partition_index, p.committed_offset);
                if p.committed_leader_epoch >= 0 {
                    out.push_str(&format!("@{}", p.committed_leader_epoch));
                }
                if let Some(metadata) = p.metadata.as_ref().filter(|metadata| !metadata.is_empty()) {
                    out.push_str(&format!(" {metadata}"));
                }
                if p.error_code != 0 {
                    out.push_str(&format!(" {}", code(p.error_code)));
                }
                out
            })
        });
        partitions.collect()
    }

    pub(super) fn described(&self, group_id: &str, version: i16) -> Vec<String> {
        let group = self.shard.describe(group_id, version);
        let first = [code(group.error_code), &group.group_state, &group.protocol_type, &group.protocol_data];
        let words: Vec<_> = first.into_iter().filter(|word| !word.is_empty()).collect();
        let mut out = vec![words.join(" ")];
        out.extend(group.members.iter().map(|m| {
            let instance = m.group_instance_id.as_ref().map(|i| format!("/{i}")).unwrap_or_default();
            let assigned = partitions_text(&m.member_assignment);
            let (id, client, host) = (&m.member_id, &m.client_id, &m.client_host);
            format!(
                "{id}{instance} client={client} host={host} ({}) [{assigned}]",
                topics_text(&m.member_metadata)
            )
        }));
        out
    }

    pub(super) fn listed(&self) -> Vec<String> {
        let groups = self.shard.list();
        groups
            .map(|g| format!("{} {} {} '{}'", g.group_id, g.group_type, g.group_state, g.protocol_type))
            .collect()
    }

    pub(super) fn explained(&self, group_id: &str) -> Vec<String> {
        let Some(explanation) = self.shard.explain(group_id) else { return vec!["nothing".to_owned()] };
        let mut out = vec![format!("{} {}", explanation.state, explanation.generation)];
        out.extend(explanation.events.iter().map(|e| format!("{} {}: {}", e.generation, e.kind, e.text)));
        out.extend(explanation.partitions.into_iter().map(|movement| movement.reason));
        out
    }
}
