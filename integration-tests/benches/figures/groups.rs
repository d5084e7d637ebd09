//! What consumer groups cost: many that only heartbeat, commits, and one large group that is restarted.

use std::time::{Duration, Instant};

use ottla_integration_tests::crowd::{Crowd, Habits};
use ottla_integration_tests::groups::commit_request;
use ottla_integration_tests::wait::let_pass;
use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{Broker, process};
use ottla_protocol::generated::offset_commit::OffsetCommitResponse;
use ottla_transport::client::Client;

use crate::Options;
use crate::report::Report;

const SETTLED_MAX: Duration = Duration::from_secs(120);
const MEMBERS_EACH: usize = 4;
const LARGE: usize = 200;
const COMMITTERS: usize = 100;

/// All figures of groups.
pub fn figures(options: &Options, report: &mut Report) {
    report.groups_begin();
    heartbeats(options, report);
    commits(options, report);
    restart(report);
    report.process_end();
}

/// 1,000 groups of 4 members, each on a connection of its own, that do nothing but heartbeat every 3 s.
fn heartbeats(options: &Options, report: &mut Report) {
    let count = options.scaled(1_000);
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    assert_eq!(connection.describe_group("first").error_code, 0, "the coordinators are loaded");
    let groups: Vec<String> = (0..count).map(|i| format!("group-{i}")).collect();
    let before = process::rss_bytes(broker.pid());
    let crowd = Crowd::start(broker.address(), &groups, MEMBERS_EACH, Habits::default());
    let generations = crowd.settle(SETTLED_MAX);
    assert_eq!(generations.len() as u64, count);
    let seconds = if options.quick { 6 } else { 30 };
    let began = process::cpu_s(broker.pid());
    let_pass(Duration::from_secs(seconds));
    let used = (process::cpu_s(broker.pid()) - began) / seconds as f64 * 100.0;
    let what = format!("{count} groups of {MEMBERS_EACH} members that heartbeat each 3 s");
    report.group(&format!("{what}: processor time"), &format!("{used:.1} % of a core"));
    let each = process::rss_bytes(broker.pid()).saturating_sub(before) as f64 / count as f64 / 1024.0;
    report.group(
        &format!("{what}: memory (RSS) for a group, its {MEMBERS_EACH} connections included"),
        &format!("{each:.1} KiB"),
    );
    let most = generations.iter().max().expect("a group");
    report.group(&format!("{what}, all started at once: most generations of a group"), &most.to_string());
}

/// Commits of one partition, one in flight on each of 100 connections, each to a group of its own.
fn commits(options: &Options, report: &mut Report) {
    let broker = Broker::start_default();
    let mut connection = Connection::open(broker.address());
    connection.create_topic("committed", 1, &[]);
    let each = options.scaled(1_000);
    let address = broker.address();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for committer in 0..COMMITTERS {
        // Once each beforehand, so that what is measured is not the making of the groups.
        assert_eq!(connection.commit_alone(&format!("committer-{committer}"), "committed", 0, ""), 0);
    }
    let cpu = process::cpu_s(broker.pid());
    let began = Instant::now();
    runtime.block_on(async {
        let one = |committer: usize| async move {
            let client = Client::connect(address).await.expect("the broker listens");
            for offset in 1..=i64::try_from(each).expect("a small count") {
                let request =
                    commit_request(&format!("committer-{committer}"), -1, "", "committed", offset, "");
                let reply: OffsetCommitResponse = client.call(&request, 8).await.expect("a reply");
                assert_eq!(reply.topics[0].partitions[0].error_code, 0);
            }
        };
        let tasks: Vec<_> = (0..COMMITTERS).map(|committer| tokio::spawn(one(committer))).collect();
        for task in tasks {
            task.await.expect("every commit is answered");
        }
    });
    let (took, used) = (began.elapsed().as_secs_f64(), process::cpu_s(broker.pid()) - cpu);
    let total = (COMMITTERS as u64 * each) as f64;
    let what = format!("commits on disk, {COMMITTERS} clients with one in flight each");
    report.group(&what, &format!("{:.0} a second", total / took));
    report.group("processor time for a commit", &format!("{:.0} us", used / total * 1e6));
}

/// 200 members of one group that leave, or are killed, and start again at once.
fn restart(report: &mut Report) {
    let broker = Broker::start_default();
    let groups = ["large".to_owned()];
    let start = || {
        let began = Instant::now();
        let crowd = Crowd::start(broker.address(), &groups, LARGE, Habits::default());
        let generation = crowd.settle(SETTLED_MAX)[0];
        (crowd, generation, began.elapsed().as_secs_f64())
    };
    let mut before = 0;
    let mut tell = |what: &str, generation: i32, took: f64| {
        let text = format!("{took:.1} s, {} generations", generation - before);
        report.group(&format!("{LARGE} members of one group, {what}: all stable again after"), &text);
        before = generation;
    };
    let (crowd, generation, took) = start();
    tell("first start (of it group.initial.rebalance.delay.ms 3 s)", generation, took);
    crowd.leave();
    let (crowd, generation, took) = start();
    tell("all left and started at once (of it the delay)", generation, took);
    drop(crowd);
    let (crowd, generation, took) = start();
    tell("all killed and started at once (of it session.timeout.ms 10 s)", generation, took);
    crowd.leave();
}
