//! Records of `__consumer_offsets` in Kafka's format: a 16 bit version, then the fields. Key versions 0 and 1 are offsets, 2 is a
//! group; the others belong to other protocols.

use bytes::Bytes;
use ottla_protocol::generated::records::group::{
    GroupMetadataKey, GroupMetadataValue, MemberMetadata, OffsetCommitKey, OffsetCommitValue,
};
use ottla_protocol::wire::{Message, Reader, Str, Writer};

use super::context::Assignments;
use super::group::Group;
use super::offsets::{CommittedOffset, OffsetKey};
use super::{GroupRecord, ReplayError};

const OFFSET_KEY: i16 = 1;
const OFFSET_KEY_OLD: i16 = 0;
const GROUP_KEY: i16 = 2;
/// The versions that Kafka 4.3 writes.
const OFFSET_VALUE: i16 = 4;
const GROUP_VALUE: i16 = 3;
/// The only version that has a time at which the offset expires by itself.
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;

/// A key that classic groups understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Offset { group_id: Str, key: OffsetKey },
    Group(Str),
    Other,
}

/// What a group's record says now; with `assignments`, as it will be once that is stored.
pub(super) fn group_metadata(group: &Group, assignments: Option<&Assignments>) -> GroupRecord {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let members = group.members.in_order().map(|member| MemberMetadata {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client.id.clone(),
        client_host: member.client.host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.metadata(protocol),
        assignment: assignments.and_then(|all| all.get(&member.id)).unwrap_or(&member.assignment).clone(),
        ..MemberMetadata::default()
    });
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        generation: group.generation,
        protocol: group.protocol.clone(),
        leader: group.leader.clone(),
        current_state_timestamp: group.state_since_ms.unwrap_or(-1),
        members: members.collect(),
        ..GroupMetadataValue::default()
    };
    GroupRecord { key: group_key(&group.id), value: Some(with_version(GROUP_VALUE, GROUP_VALUE, &value)) }
}

pub(super) fn group_tombstone(group_id: &Str) -> GroupRecord {
    GroupRecord { key: group_key(group_id), value: None }
}

pub(super) fn offset_record(group_id: &Str, key: &OffsetKey, offset: &CommittedOffset) -> GroupRecord {
    let version = if offset.expire_timestamp_ms.is_some() { OFFSET_VALUE_WITH_EXPIRY } else { OFFSET_VALUE };
    let value = OffsetCommitValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_timestamp: offset.commit_timestamp_ms,
        expire_timestamp: offset.expire_timestamp_ms.unwrap_or(-1),
        // Tagged fields exist in flexible versions alone.
        topic_id: if version == OFFSET_VALUE { offset.topic_id } else { Default::default() },
        ..OffsetCommitValue::default()
    };
    GroupRecord { key: offset_key(group_id, key), value: Some(with_version(version, version, &value)) }
}

pub(super) fn offset_tombstone(group_id: &Str, key: &OffsetKey) -> GroupRecord {
    GroupRecord { key: offset_key(group_id, key), value: None }
}

fn group_key(group_id: &Str) -> Bytes {
    with_version(GROUP_KEY, 0, &GroupMetadataKey { group: group_id.clone() })
}

fn offset_key(group_id: &Str, (topic, partition): &OffsetKey) -> Bytes {
    let key = OffsetCommitKey { group: group_id.clone(), topic: topic.clone(), partition: *partition };
    with_version(OFFSET_KEY, 0, &key)
}

fn with_version<M: Message>(tag: i16, version: i16, message: &M) -> Bytes {
    let mut writer = Writer::new();
    writer.i16(tag);
    message.write(&mut writer, version);
    writer.finish_bytes().expect("the length of all strings was checked when they came in")
}

/// Reads a key.
pub(super) fn read_key(key: &[u8]) -> Result<Key, ReplayError> {
    let mut reader = Reader::new(Bytes::copy_from_slice(key));
    let tag = reader.i16();
    let out = match tag {
        OFFSET_KEY | OFFSET_KEY_OLD => {
            let key = OffsetCommitKey::read(&mut reader, 0);
            Key::Offset { group_id: key.group, key: (key.topic, key.partition) }
        }
        GROUP_KEY => Key::Group(GroupMetadataKey::read(&mut reader, 0).group),
        _ => Key::Other,
    };
    reader.check()?;
    Ok(out)
}

/// Reads a value.
pub(super) fn read_value<M: Message>(value: &[u8]) -> Result<M, ReplayError> {
    let mut reader = Reader::new(Bytes::copy_from_slice(value));
    let version = reader.i16();
    reader.check()?;
    let known = M::VERSIONS.1;
    if !(0..=known).contains(&version) {
        return Err(ReplayError::UnknownVersion { name: M::NAME, version, known });
    }
    let out = M::read(&mut reader, version);
    reader.check()?;
    Ok(out)
}
