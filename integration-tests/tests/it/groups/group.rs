//! A group of members under test, and the judge of its history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, wait_until};

use super::member::{Client, Member, Settings, What};

/// How long a group may take to settle; a member that was killed is missed after its session.
const SETTLED_MAX: Duration = Duration::from_secs(60);
const CONSUMED_MAX: Duration = Duration::from_secs(60);

/// The members of one group of one topic, those that are gone included.
pub struct Group {
    pub name: String,
    pub topic: String,
    pub partitions: i32,
    pub strategy: String,
    pub members: Vec<Member>,
    gone: Vec<Member>,
}

impl Group {
    pub fn new(name: &str, topic: &str, partitions: i32, strategy: &str) -> Group {
        Group {
            name: name.to_owned(),
            topic: topic.to_owned(),
            partitions,
            strategy: strategy.to_owned(),
            members: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// The settings of a member of it.
    pub fn settings(&self, client: Client) -> Settings {
        Settings::new(client, &self.topic, &self.name, &self.strategy)
    }

    pub fn join(&mut self, broker: &Broker, client: Client) {
        let settings = self.settings(client);
        self.join_as(broker, settings);
    }

    pub fn join_as(&mut self, broker: &Broker, settings: Settings) {
        self.members.push(Member::start(broker, settings));
    }

    /// One member leaves in order.
    pub fn close(&mut self, index: usize) {
        self.members[index].close();
        self.gone.push(self.members.remove(index));
    }

    /// `kill -9` of one member.
    pub fn kill(&mut self, index: usize) {
        self.members[index].kill();
        self.gone.push(self.members.remove(index));
    }

    /// Waits for a member that gives up, says why, and takes it out.
    pub fn give_up(&mut self, index: usize) -> String {
        let member = &mut self.members[index];
        let text = wait_until(SETTLED_MAX, "a member that gives up", || member.failed());
        wait_until(SETTLED_MAX, "its end", || member.ended().then_some(()));
        self.gone.push(self.members.remove(index));
        text
    }

    /// All leave in order.
    pub fn close_all(&mut self) {
        self.members.iter_mut().for_each(Member::ask_to_close);
        while !self.members.is_empty() {
            let mut member = self.members.remove(0);
            member.close();
            self.gone.push(member);
        }
    }

    /// Waits until the broker calls the group stable with all members, and they have as many partitions as `sizes` says,
    /// each partition one owner.
    pub fn settle(&self, broker: &Broker, sizes: &[usize]) {
        let mut connection = Connection::open(broker.address());
        let what = format!("{} with {sizes:?} partitions", self.name);
        wait_until(SETTLED_MAX, &what, || {
            self.assert_none_failed();
            let owned: Vec<_> = self.members.iter().map(Member::owned).collect();
            let mut found: Vec<_> = owned.iter().map(BTreeSet::len).collect();
            found.sort_unstable();
            let mut all: Vec<i32> = owned.into_iter().flatten().collect();
            all.sort_unstable();
            if found != sizes || !all.into_iter().eq(0..self.partitions) {
                return None;
            }
            let described = connection.describe_group(&self.name);
            let stable = described.error_code == 0 && &*described.group_state == "Stable";
            (stable && described.members.len() == sizes.len()).then_some(())
        });
    }

    /// Waits until exactly these offsets are committed.
    pub fn commits(&self, broker: &Broker, ends: &[i64]) {
        let mut connection = Connection::open(broker.address());
        wait_until(CONSUMED_MAX, &format!("{} to commit {ends:?}", self.name), || {
            self.assert_none_failed();
            let committed = connection.committed(&self.name, &self.topic, self.partitions);
            (committed.as_deref() == Ok(ends)).then_some(())
        });
    }

    /// Waits until the members have had every record up to these ends, and committed that.
    pub fn consume(&self, broker: &Broker, ends: &[i64]) {
        self.commits(broker, ends);
        wait_until(CONSUMED_MAX, &format!("{}'s members to tell of all", self.name), || {
            ends.iter().zip(0..).all(|(end, partition)| self.gap(partition, *end).is_none()).then_some(())
        });
    }

    /// What the members had: partition, first and last offset of each stretch, sorted.
    pub fn got(&self) -> Vec<(i32, i64, i64)> {
        let events = self.everybody().flat_map(|member| member.diary.read());
        let mut spans: Vec<_> = events
            .filter_map(|event| match event.what {
                What::Got(spans) => Some(spans),
                _ => None,
            })
            .flatten()
            .collect();
        spans.sort_unstable();
        spans
    }

    /// The first offset below `end` that no member had.
    fn gap(&self, partition: i32, end: i64) -> Option<i64> {
        let mut next = 0;
        for (_, first, last) in self.got().into_iter().filter(|span| span.0 == partition) {
            if first > next {
                break;
            }
            next = next.max(last + 1);
        }
        (next < end).then_some(next)
    }

    /// Records that came more than once.
    pub fn doubled(&self) -> i64 {
        let spans = self.got();
        let total: i64 = spans.iter().map(|(_, first, last)| last - first + 1).sum();
        let distinct: BTreeSet<_> = spans
            .iter()
            .flat_map(|(partition, first, last)| (*first..=*last).map(move |offset| (partition, offset)))
            .collect();
        total - i64::try_from(distinct.len()).expect("a small count")
    }

    /// At no time had two members the same partition: stricter than once per generation.
    pub fn assert_single_owners(&self) {
        let mut spans: BTreeMap<i32, Vec<(f64, f64)>> = BTreeMap::new();
        for member in self.everybody() {
            for (partition, begin, end) in member.ownerships() {
                spans.entry(partition).or_default().push((begin, end));
            }
        }
        assert!(spans.keys().copied().eq(0..self.partitions), "every partition had an owner");
        for (partition, mut owners) in spans {
            owners.sort_by(|a, b| a.0.total_cmp(&b.0));
            for pair in owners.windows(2) {
                assert!(pair[0].1 <= pair[1].0, "{}-{partition} had two owners: {owners:?}", self.name);
            }
        }
    }

    fn everybody(&self) -> impl Iterator<Item = &Member> {
        self.gone.iter().chain(&self.members)
    }

    fn assert_none_failed(&self) {
        for member in &self.members {
            if let Some(text) = member.failed() {
                panic!("{:?} of {} failed: {text}", member.settings.client, self.name);
            }
        }
    }
}

impl Drop for Group {
    /// Of a test that fails: who had what around the first record that is missing.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for partition in 0..self.partitions {
            let Some(missing) = self.gap(partition, i64::MAX) else { continue };
            eprintln!("--- {}-{partition}: nobody told of offset {missing}; around it: ---", self.name);
            for member in self.everybody() {
                for event in member.diary.read() {
                    let What::Got(spans) = event.what else { continue };
                    let near = |span: &&(i32, i64, i64)| span.0 == partition && (span.1 - missing).abs() < 20;
                    for (_, first, last) in spans.iter().filter(near) {
                        eprintln!("{:.3} {:?}: {first} to {last}", event.at_s, member.settings.client);
                    }
                }
            }
        }
    }
}
