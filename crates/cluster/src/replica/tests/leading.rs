//! A leader and its followers: a script in, text out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

/// A leader on broker 1 whose followers are what the script says.
struct Script {
    replica: Replica,
    leadership: Leadership,
    serving: BTreeMap<BrokerId, i64>,
    now_ms: i64,
    text: String,
}

const EPOCH: LeaderEpoch = LeaderEpoch(5);

impl Script {
    /// The log has 10 records on disk; brokers 1 to 3 serve with epochs 11 to 13.
    fn new(durability: Durability, isr: &[i32], min_insync_replicas: usize) -> Self {
        let mut replica = Replica::new(BrokerId(1), durability, progress(10, 10), Offset(0));
        replica.handle_lag_limit(1600);
        let leadership = Leadership {
            epoch: EPOCH,
            partition_epoch: 7,
            replicas: (1..=3).map(BrokerId).collect(),
            isr: isr.iter().copied().map(BrokerId).collect(),
            min_insync_replicas,
        };
        replica.handle_lead(leadership.clone());
        let serving = (1..=3).map(|id| (BrokerId(id), i64::from(10 + id))).collect();
        Self { replica, leadership, serving, now_ms: 0, text: String::new() }
    }

    fn say(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Committed(offset) => writeln!(self.text, "committed {offset}").unwrap(),
                Action::Propose(proposal) => {
                    let isr: Vec<_> =
                        proposal.isr.iter().map(|(id, epoch)| format!("{id}@{epoch}")).collect();
                    writeln!(self.text, "propose {} on {}", isr.join(","), proposal.partition_epoch).unwrap();
                }
            }
        }
    }

    fn local(&mut self, end: i64, durable: i64) {
        if self.replica.handle_local_progress(progress(end, durable)) {
            self.say(&[Action::Committed(self.replica.high_watermark())]);
        }
    }

    fn fetch(&mut self, id: i32, offset: i64) {
        let fetch = FollowerFetch {
            id: BrokerId(id),
            broker_epoch: i64::from(10 + id),
            leader_epoch: EPOCH,
            offset: Offset(offset),
            last_epoch: LeaderEpoch(4),
        };
        self.fetch_as(&fetch, Some(EpochEnd { epoch: LeaderEpoch(4), end: Offset(1000) }));
    }

    fn fetch_as(&mut self, fetch: &FollowerFetch, local_end: Option<EpochEnd>) {
        let serving = self.serving.clone();
        let answer =
            self.replica.handle_fetch(self.now_ms, fetch, local_end, &|id| serving.get(&id).copied());
        match answer {
            FetchAnswer::Serve(actions) => self.say(&actions),
            FetchAnswer::Diverging(end) => {
                writeln!(self.text, "diverging {} {}", end.epoch, end.end).unwrap()
            }
            FetchAnswer::OutOfRange => writeln!(self.text, "out of range").unwrap(),
            FetchAnswer::Refused(refusal) => writeln!(self.text, "{refusal:?}").unwrap(),
        }
    }

    fn durable(&mut self, id: i32, durable: i64) {
        self.durable_as(&DurableReport {
            id: BrokerId(id),
            broker_epoch: i64::from(10 + id),
            leader_epoch: EPOCH,
            durable: Offset(durable),
        });
    }

    fn durable_as(&mut self, report: &DurableReport) {
        let serving = self.serving.clone();
        let told = self.replica.handle_durable_report(self.now_ms, report, &|id| serving.get(&id).copied());
        match told {
            Ok(actions) => self.say(&actions),
            Err(refusal) => writeln!(self.text, "{refusal:?}").unwrap(),
        }
    }

    /// A follower has all up to there, in memory and on disk.
    fn has(&mut self, id: i32, offset: i64) {
        self.fetch(id, offset);
        self.durable(id, offset);
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let serving = self.serving.clone();
        let actions = self.replica.tick(self.now_ms, &|id| serving.get(&id).copied());
        self.say(&actions);
    }

    fn answer(&mut self, answer: Result<&[i32], ProposalError>) {
        let proposal = self.replica.proposal().expect("something was proposed").clone();
        self.answer_to(&proposal, answer);
    }

    fn answer_to(&mut self, proposal: &Proposal, answer: Result<&[i32], ProposalError>) {
        let answer = answer.map(|isr| ProposalAnswer {
            leader_epoch: EPOCH,
            partition_epoch: proposal.partition_epoch + 1,
            isr: isr.iter().copied().map(BrokerId).collect(),
        });
        let serving = self.serving.clone();
        let actions = self
            .replica
            .handle_proposal_answer(self.now_ms, proposal, answer, &|id| serving.get(&id).copied());
        self.say(&actions);
    }

    /// The metadata says so.
    fn metadata(&mut self, partition_epoch: i32, isr: &[i32]) {
        let isr = isr.iter().copied().map(BrokerId).collect();
        self.replica.handle_lead(Leadership { partition_epoch, isr, ..self.leadership.clone() });
    }

    #[track_caller]
    fn check(&mut self, expected: &str) {
        let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&std::mem::take(&mut self.text)), lines(expected));
    }
}

#[test]
fn on_a_durable_topic_only_what_all_have_on_disk_is_committed() {
    let mut s = Script::new(Durability::Durable, &[1, 2, 3], 1);
    s.fetch(2, 10);
    s.durable(2, 10);
    s.fetch(3, 10);
    s.check("");
    s.durable(3, 4);
    s.durable(3, 10);
    // A report that was overtaken changes nothing; neither does one that says more than the leader has.
    s.durable(3, 5);
    s.local(20, 20);
    s.has(2, 20);
    s.durable(3, 99);
    s.check("committed 4\ncommitted 10\ncommitted 20");
}

#[test]
fn on_a_replicated_topic_what_all_have_in_memory_is_committed() {
    let mut s = Script::new(Durability::Replicated, &[1, 2, 3], 1);
    s.fetch(2, 10);
    s.fetch(3, 7);
    s.local(20, 10);
    s.fetch(3, 10);
    s.check("committed 7\ncommitted 10");
}

#[test]
fn what_does_not_match_counts_for_nothing() {
    let mut s = Script::new(Durability::Durable, &[1, 2], 1);
    s.durable(2, 10);
    let fetch = FollowerFetch {
        id: BrokerId(2),
        broker_epoch: 12,
        leader_epoch: EPOCH,
        offset: Offset(10),
        last_epoch: LeaderEpoch(4),
    };
    let end = |epoch, end| Some(EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) });
    s.fetch_as(&fetch, end(3, 8));
    s.fetch_as(&fetch, end(4, 9));
    s.fetch_as(&fetch, None);
    s.fetch_as(&FollowerFetch { offset: Offset(11), ..fetch }, end(4, 11));
    s.fetch_as(&FollowerFetch { leader_epoch: LeaderEpoch(4), ..fetch }, end(4, 10));
    s.fetch_as(&FollowerFetch { leader_epoch: LeaderEpoch(6), ..fetch }, end(4, 10));
    s.fetch_as(&FollowerFetch { id: BrokerId(4), ..fetch }, end(4, 10));
    s.fetch_as(&FollowerFetch { id: BrokerId(1), ..fetch }, end(4, 10));
    s.durable(2, 10);
    s.check(
        "diverging 3 8
        diverging 4 9
        out of range
        out of range
        FencedLeaderEpoch
        UnknownLeaderEpoch
        NotLeader
        NotLeader",
    );
    s.fetch_as(&fetch, end(4, 10));
    s.durable(2, 10);
    s.check("committed 10");
    // A new life has shown nothing yet, and the old one has nothing more to say.
    s.local(20, 10);
    s.has(2, 20);
    let reborn = FollowerFetch { broker_epoch: 22, offset: Offset(12), ..fetch };
    s.fetch_as(&reborn, end(4, 30));
    s.fetch(2, 20);
    s.durable(2, 20);
    s.local(20, 20);
    s.check("StaleBrokerEpoch\nStaleBrokerEpoch");
    s.durable_as(&DurableReport {
        id: BrokerId(2),
        broker_epoch: 22,
        leader_epoch: EPOCH,
        durable: Offset(20),
    });
    s.check("committed 20");
    s.durable_as(&DurableReport {
        id: BrokerId(2),
        broker_epoch: 22,
        leader_epoch: LeaderEpoch(4),
        durable: Offset(20),
    });
    s.check("FencedLeaderEpoch");
}

#[test]
fn nothing_is_committed_below_min_insync_replicas() {
    let mut s = Script::new(Durability::Durable, &[1], 2);
    s.local(12, 12);
    s.check("");
    s.has(2, 12);
    s.check("propose 1@11,2@12 on 7");
    s.answer(Ok(&[1, 2]));
    s.check("committed 12");
}

#[test]
fn who_lags_too_long_leaves_and_holds_nothing_up_any_more() {
    let mut s = Script::new(Durability::Durable, &[1, 2, 3], 1);
    s.has(2, 10);
    s.has(3, 10);
    assert_eq!(s.replica.next_deadline_ms(), None, "nobody lacks anything");
    s.pass(100_000);
    s.local(20, 20);
    // Broker 3 has it in memory, but not on disk.
    s.fetch(3, 20);
    s.has(2, 20);
    assert_eq!(s.replica.next_deadline_ms(), Some(100_000 + 1601));
    s.pass(1600);
    s.check("committed 10");
    s.pass(1);
    s.check("propose 1@11,2@12 on 7");
    assert_eq!(s.replica.next_deadline_ms(), None, "the answer comes first");
    s.pass(5000);
    s.check("");
    s.answer(Ok(&[1, 2]));
    s.check("committed 20");
}

#[test]
fn who_is_behind_but_keeps_up_stays() {
    let mut s = Script::new(Durability::Durable, &[1, 2], 1);
    s.has(2, 10);
    // What is on disk there is always half a second old.
    for n in 1..=200 {
        s.local(10 + n, 10 + n);
        s.fetch(2, 10 + n);
        s.durable(2, 10 + (n - 10).max(0));
        s.pass(50);
    }
    assert!(!s.text.contains("propose"), "{}", s.text);
    assert!(s.text.ends_with("committed 200\n"));
}

#[test]
fn a_dead_follower_leaves_though_another_follower_is_busy() {
    let mut s = Script::new(Durability::Durable, &[1, 2, 3], 1);
    s.has(2, 10);
    s.has(3, 10);
    s.text.clear();
    let mut left_ms = None;
    for n in 1..=100 {
        s.local(10 + n, 10 + n);
        s.has(2, 10 + n);
        s.pass(20);
        if left_ms.is_none() && !s.text.is_empty() {
            left_ms = Some(s.now_ms);
        }
    }
    s.check("propose 1@11,2@12 on 7");
    assert!((1601..1700).contains(&left_ms.unwrap()), "{left_ms:?}");
}

#[test]
fn who_has_caught_up_joins_if_it_serves() {
    let mut s = Script::new(Durability::Durable, &[1], 1);
    s.local(20, 20);
    s.check("committed 20");
    s.has(2, 19);
    s.fetch(2, 20);
    s.check("");
    s.serving.remove(&BrokerId(2));
    s.durable(2, 20);
    s.serving.insert(BrokerId(2), 99);
    s.durable(2, 20);
    s.check("");
    s.serving.insert(BrokerId(2), 12);
    s.durable(2, 20);
    s.check("propose 1@11,2@12 on 7");
}

#[test]
fn a_new_leader_takes_in_only_who_has_all_that_it_began_with() {
    let mut s = Script::new(Durability::Durable, &[1, 2], 1);
    assert!(!s.replica.is_high_watermark_settled());
    s.has(2, 5);
    s.has(3, 9);
    s.check("committed 5");
    assert!(!s.replica.is_high_watermark_settled());
    s.has(3, 10);
    s.check("propose 1@11,2@12,3@13 on 7");
    s.has(2, 10);
    assert!(s.replica.is_high_watermark_settled());
    s.check("committed 10");
}

#[test]
fn who_left_at_once_comes_back_only_with_all_that_the_leader_began_with() {
    let mut s = Script::new(Durability::Durable, &[1, 2, 3], 1);
    s.pass(0);
    s.metadata(8, &[1, 2]);
    s.has(2, 5);
    s.has(3, 6);
    s.check("committed 5");
    s.has(3, 10);
    s.check("propose 1@11,2@12,3@13 on 8");
}

#[test]
fn while_a_proposal_is_in_flight_all_that_it_names_count() {
    let mut s = Script::new(Durability::Durable, &[1, 2], 1);
    s.has(2, 10);
    s.has(3, 10);
    s.check("committed 10\npropose 1@11,2@12,3@13 on 7");
    s.local(20, 20);
    s.has(2, 20);
    s.check("");
    // Nobody knows whether it was committed: it is sent again as it was.
    s.answer(Err(ProposalError::Unknown));
    s.answer(Err(ProposalError::Stale));
    s.pass(500);
    s.check("propose 1@11,2@12,3@13 on 7");
    // The metadata knows. A late answer to what is settled is nothing new.
    let settled = s.replica.proposal().unwrap().clone();
    s.metadata(8, &[1, 2, 3]);
    assert_eq!(s.replica.proposal(), None);
    s.answer_to(&settled, Err(ProposalError::Unknown));
    s.answer_to(&settled, Ok(&[1, 2, 3]));
    s.check("");
    s.has(3, 20);
    s.check("committed 20");
    // Metadata that the answer has overtaken.
    s.metadata(7, &[1]);
    assert_eq!(s.replica.leadership().unwrap().isr.len(), 3);
}

#[test]
fn after_a_refusal_the_isr_is_what_it_was_and_the_next_proposal_waits() {
    let mut s = Script::new(Durability::Durable, &[1, 2], 1);
    s.has(2, 10);
    s.has(3, 10);
    s.check("committed 10\npropose 1@11,2@12,3@13 on 7");
    s.local(20, 20);
    s.has(2, 20);
    s.answer(Err(ProposalError::Refused));
    // Broker 3 was caught up a moment ago: it holds the high watermark for a second and no longer.
    s.check("");
    assert_eq!(s.replica.next_deadline_ms(), Some(1001));
    s.pass(1001);
    s.check("committed 20");
    s.has(3, 20);
    s.check("propose 1@11,2@12,3@13 on 7");
}

#[test]
fn a_follower_that_nears_the_end_under_load_gets_in() {
    let mut s = Script::new(Durability::Durable, &[1, 2], 1);
    s.has(2, 10);
    // Broker 3 is always three records behind what the others have on disk, but only for a moment.
    for n in 1..=100 {
        s.local(10 + n, 10 + n);
        s.has(2, 10 + n);
        s.fetch(3, 10 + n);
        s.durable(3, 10 + (n - 3).max(0));
        s.pass(10);
        if s.replica.proposal().is_some() {
            return;
        }
    }
    panic!("it was never proposed: {}", s.text);
}

#[test]
fn older_leaderships_and_roles_are_over() {
    let mut s = Script::new(Durability::Durable, &[1, 2], 1);
    let older = Leadership { epoch: LeaderEpoch(4), isr: vec![BrokerId(1)], ..s.leadership.clone() };
    s.replica.handle_lead(older);
    s.replica.handle_follow(Following { leader: BrokerId(2), epoch: LeaderEpoch(4) });
    assert_eq!(s.replica.leadership(), Some(&s.leadership));
    s.replica.handle_follow(Following { leader: BrokerId(2), epoch: LeaderEpoch(6) });
    s.replica.handle_lead(s.leadership.clone());
    assert_eq!(s.replica.leadership(), None);
    s.fetch(2, 10);
    s.durable(2, 10);
    s.check("NotLeader\nNotLeader");
}
