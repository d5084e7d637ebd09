//! Keys of the groups, which hold from start to stop.

use std::time::Duration;

use ottla_cluster::groups::GroupConfig;
use ottla_protocol::records::Compression;

use super::Reader;

/// `group.*` and `offsets.*`, but for those that the controller makes `__consumer_offsets` with.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    /// What the groups themselves go by.
    pub machine: GroupConfig,
    /// `offsets.topic.compression.codec`.
    pub compression: Compression,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout: Duration,
    /// `offsets.load.buffer.size`.
    pub load_buffer_bytes: usize,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
}

const MS_PER_MINUTE: i64 = 60_000;

pub(super) fn read(r: &Reader<'_>) -> GroupsConfig {
    let machine = GroupConfig {
        initial_rebalance_delay_ms: r.number("group.initial.rebalance.delay.ms"),
        session_timeout_ms_min: r.number("group.min.session.timeout.ms"),
        session_timeout_ms_max: r.number("group.max.session.timeout.ms"),
        size_max: r.number("group.max.size"),
        offset_metadata_bytes_max: usize::try_from(r.number::<i32>("offset.metadata.max.bytes")).unwrap_or(0),
        offsets_retention_ms: r.number::<i64>("offsets.retention.minutes").saturating_mul(MS_PER_MINUTE),
    };
    GroupsConfig {
        machine,
        compression: match r.number::<i32>("offsets.topic.compression.codec") {
            1 => Compression::Gzip(-1),
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd(0),
            _ => Compression::None,
        },
        commit_timeout: r.millis("offsets.commit.timeout.ms"),
        load_buffer_bytes: r.number("offsets.load.buffer.size"),
        retention_check_interval: r.millis("offsets.retention.check.interval.ms"),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{BrokerConfig, StaticSettings};

    #[test]
    fn retention_is_counted_in_minutes() {
        for (overrides, ms) in
            [(&[][..], 7 * 24 * 3_600_000), (&["offsets.retention.minutes=2".to_owned()], 120_000)]
        {
            let settings = StaticSettings::gather(None, [], overrides).unwrap();
            let config = BrokerConfig::from_settings(settings).unwrap();
            assert_eq!(config.groups.machine.offsets_retention_ms, ms);
        }
    }
}
