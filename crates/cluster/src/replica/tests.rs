//! What a replica makes of what it hears.

use super::*;

fn leadership(isr: &[i32], min_insync_replicas: usize) -> Leadership {
    let ids: Vec<_> = isr.iter().map(|&id| BrokerId(id)).collect();
    Leadership {
        epoch: LeaderEpoch(0),
        partition_epoch: 0,
        replicas: ids.clone(),
        isr: ids,
        min_insync_replicas,
    }
}

fn progress(end: i64, durable: i64) -> Progress {
    Progress { end: Offset(end), durable: Offset(durable) }
}

#[test]
fn high_watermark_follows_what_the_durability_counts() {
    let mut replica = Replica::new(BrokerId(1), Durability::Durable, progress(0, 0), Offset(0));
    replica.handle_lead(leadership(&[1], 1));
    assert!(!replica.handle_local_progress(progress(5, 0)));
    assert!(replica.handle_local_progress(progress(5, 3)));
    assert_eq!(replica.high_watermark(), Offset(3));
    replica.handle_durability(Durability::Replicated);
    assert_eq!(replica.high_watermark(), Offset(5));
    replica.handle_durability(Durability::Durable);
    assert_eq!(replica.high_watermark(), Offset(5), "never back");
}

#[test]
fn a_single_replica_is_enough_whatever_the_topic_asks_for() {
    let mut replica = Replica::new(BrokerId(1), Durability::Replicated, progress(0, 0), Offset(0));
    replica.handle_lead(leadership(&[1], 2));
    assert!(replica.handle_local_progress(progress(1, 0)));
}

#[test]
fn no_advance_below_min_insync_replicas_or_without_leadership() {
    let mut replica = Replica::new(BrokerId(1), Durability::Replicated, progress(0, 0), Offset(0));
    assert!(!replica.handle_local_progress(progress(4, 4)), "not the leader");
    let mut short = leadership(&[1, 2], 2);
    short.isr = vec![BrokerId(1)];
    replica.handle_lead(short);
    assert!(!replica.handle_local_progress(progress(5, 5)));
    assert_eq!(replica.high_watermark(), Offset(0));
}

mod following;
mod leading;
mod random;
mod world;
