//! Metadata records as they stand in the log: Kafka's framing (frame version, record type, record version, each an unsigned
//! varint, then the record).

use bytes::Bytes;
use ottla_protocol::generated::records::{
    BrokerRegistrationChangeRecord, ConfigRecord, FeatureLevelRecord, FenceBrokerRecord, NoOpRecord,
    PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RemoveTopicRecord,
    TopicRecord, UnfenceBrokerRecord, UnregisterBrokerRecord,
};
use ottla_protocol::wire::{DecodeError, EncodeError, Message, Reader, Writer};

/// Version of the frame around a record.
const FRAME_VERSION: u32 = 1;

/// Why the bytes of a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A newer node wrote it.
    #[error(
        "the metadata log has frame version {0}, this node knows {FRAME_VERSION}: it is too old for this cluster"
    )]
    UnknownFrame(u32),
    /// A newer node wrote it.
    #[error(
        "the metadata log has a record of type {0}, which this node does not know: it is too old for this cluster"
    )]
    UnknownType(u32),
    /// A newer node wrote it.
    #[error(
        "the metadata log has {name} version {version}, this node knows up to {known}: it is too old for this cluster"
    )]
    UnknownVersion {
        /// The record.
        name: &'static str,
        /// Its version.
        version: u32,
        /// The highest that this node knows.
        known: i16,
    },
    /// The bytes are not what they claim to be.
    #[error("a metadata record is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A record says something that its version cannot.
    #[error("a metadata record cannot be written: {0}")]
    Unwritable(#[from] EncodeError),
}

macro_rules! metadata_records {
    ($($(#[$doc:meta])* $variant:ident($record:ident) written $version:literal,)*) => {
        /// One change of the metadata.
        #[derive(Clone, Debug, PartialEq)]
        pub enum MetadataRecord {
            $($(#[$doc])* $variant($record),)*
        }

        $(impl From<$record> for MetadataRecord {
            fn from(record: $record) -> Self {
                Self::$variant(record)
            }
        })*

        impl MetadataRecord {
            /// The bytes of its frame.
            ///
            /// # Errors
            /// When it says something that the version it is written in cannot.
            pub fn encode(&self) -> Result<Bytes, RecordError> {
                match self {
                    $(Self::$variant(record) => write_frame(record, $version),)*
                }
            }

            /// Reads a frame, which must be whole and hold nothing else.
            ///
            /// # Errors
            /// When a newer node wrote it, or it is malformed.
            pub fn decode(frame: Bytes) -> Result<Self, RecordError> {
                let mut reader = Reader::new(frame);
                let (frame_version, kind, version) = (reader.uvarint(), reader.uvarint(), reader.uvarint());
                reader.check()?;
                if frame_version != FRAME_VERSION {
                    return Err(RecordError::UnknownFrame(frame_version));
                }
                $(if <$record as Message>::KEY.map(i32::from) == i32::try_from(kind).ok() {
                    let record = $record::read(&mut reader, known_version::<$record>(version)?);
                    reader.finish()?;
                    return Ok(Self::$variant(record));
                })*
                Err(RecordError::UnknownType(kind))
            }
        }
    };
}

metadata_records! {
    /// A feature is finalized at a level.
    FeatureLevel(FeatureLevelRecord) written 0,
    /// A broker came, or came back.
    RegisterBroker(RegisterBrokerRecord) written 3,
    /// A broker was taken out.
    UnregisterBroker(UnregisterBrokerRecord) written 0,
    /// Something about a registered broker changed.
    BrokerRegistrationChange(BrokerRegistrationChangeRecord) written 2,
    /// A broker is fenced (older form).
    FenceBroker(FenceBrokerRecord) written 0,
    /// A broker is not fenced any more (older form).
    UnfenceBroker(UnfenceBrokerRecord) written 0,
    /// A topic was made.
    Topic(TopicRecord) written 0,
    /// A partition was made, or is described whole.
    Partition(PartitionRecord) written 2,
    /// Something about a partition changed.
    PartitionChange(PartitionChangeRecord) written 2,
    /// A topic and its partitions were deleted.
    RemoveTopic(RemoveTopicRecord) written 0,
    /// A configuration value was set or, without value, unset.
    Config(ConfigRecord) written 0,
    /// Producer ids below a number were given out.
    ProducerIds(ProducerIdsRecord) written 0,
    /// Nothing.
    NoOp(NoOpRecord) written 0,
}

fn write_frame<M: Message>(record: &M, version: i16) -> Result<Bytes, RecordError> {
    let kind = M::KEY.expect("every metadata record has a type");
    let mut writer = Writer::new();
    writer.uvarint(FRAME_VERSION);
    writer.uvarint(u32::from(kind.unsigned_abs()));
    writer.uvarint(u32::from(version.unsigned_abs()));
    record.write(&mut writer, version);
    Ok(writer.finish_bytes()?)
}

fn known_version<M: Message>(version: u32) -> Result<i16, RecordError> {
    let (first, last) = M::VERSIONS;
    let unknown = RecordError::UnknownVersion { name: M::NAME, version, known: last };
    let found = i16::try_from(version).map_err(|_| unknown.clone())?;
    if (first..=last).contains(&found) { Ok(found) } else { Err(unknown) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::ids::Uuid;

    #[test]
    fn a_record_round_trips_in_its_frame() {
        let record = MetadataRecord::from(TopicRecord {
            name: "a".into(),
            topic_id: Uuid([7; 16]),
            ..TopicRecord::default()
        });
        let bytes = record.encode().unwrap();
        assert_eq!(bytes[..5], [1, 2, 0, 2, b'a']);
        assert_eq!(MetadataRecord::decode(bytes), Ok(record));
    }

    #[test]
    fn what_a_newer_node_wrote_is_told_from_damage() {
        let decode =
            |bytes: &'static [u8]| MetadataRecord::decode(Bytes::from_static(bytes)).unwrap_err().to_string();
        assert!(decode(&[2, 2, 0]).contains("frame version 2"));
        assert!(decode(&[1, 99, 0]).contains("type 99"));
        assert!(decode(&[1, 2, 1]).contains("TopicRecord version 1"));
        assert!(decode(&[1, 2, 0]).contains("malformed"));
        assert!(decode(&[1, 20, 0, 0, 0]).contains("malformed"), "bytes behind the record");
        assert!(decode(&[]).contains("malformed"));
    }
}
