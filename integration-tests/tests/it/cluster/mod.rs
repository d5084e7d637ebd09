//! Clusters of processes whose nodes fail.

mod history;
mod members;

use std::time::Duration;

use history::{History, PARTITIONS, TOPIC};
use members::Member;
use ottla_integration_tests::{Cluster, wait_until};
use rustix::process::Signal;

#[test]
fn whoever_is_killed_under_load_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(&[]);
    let history = History::begin(&cluster);
    for index in 0..6 {
        let node = cluster.nodes().nth(index).expect("six nodes");
        node.kill();
        history.wait_for_progress();
        let node = cluster.nodes().nth(index).expect("six nodes");
        node.start();
        node.wait_ready();
        history.wait_for_full_isrs();
    }
    let count = history.end();
    println!("{count} acknowledged");
}

#[test]
fn whichever_broker_is_killed_a_group_keeps_what_it_committed() {
    let mut cluster = Cluster::start(&[]);
    let history = History::begin(&cluster);
    let mut member = Member::join(&cluster.bootstrap(), TOPIC);
    member.read_and_commit(PARTITIONS);
    for index in 0..3 {
        cluster.brokers[index].kill();
        member.check();
        member.read_and_commit(PARTITIONS);
        cluster.brokers[index].start();
        cluster.brokers[index].wait_ready();
        history.wait_for_full_isrs();
    }
    member.check();
    history.end();
}

#[test]
fn all_six_are_restarted_in_order_under_load() {
    let mut cluster = Cluster::start(&[]);
    let history = History::begin(&cluster);
    for index in 0..6 {
        let node = cluster.nodes().nth(index).expect("six nodes");
        node.stop();
        node.start();
        node.wait_ready();
        history.wait_for_full_isrs();
        history.wait_for_progress();
    }
    for broker in &cluster.brokers {
        assert!(broker.log_text().contains("other brokers lead now"), "{} gave its lead away", broker.name);
    }
    history.end();
}

#[test]
fn a_broker_that_stands_still_is_fenced_and_comes_back() {
    let cluster = Cluster::start(&[]);
    let history = History::begin(&cluster);
    cluster.brokers[1].signal(Signal::STOP);
    history.wait_for_progress();
    cluster.brokers[1].signal(Signal::CONT);
    wait_until(Duration::from_secs(60), "the broker to serve again", || {
        cluster.brokers[1].is_ready().then_some(())
    });
    history.wait_for_full_isrs();
    history.end();
}

#[test]
fn brokers_wait_for_coordinators_and_survive_their_absence() {
    let mut cluster = Cluster::start(&[]);
    let history = History::begin(&cluster);
    cluster.coordinators.iter_mut().for_each(ottla_integration_tests::Node::kill);
    // What needs no decision goes on.
    history.wait_for_progress();
    let broker = &mut cluster.brokers[2];
    broker.kill();
    broker.start();
    wait_until(Duration::from_secs(60), "it says what it waits for", || {
        let log = broker.log_text();
        log.rsplit("ottla-broker starts").next()?.contains("looking for the coordinators").then_some(())
    });
    assert!(!broker.is_ready());
    cluster.coordinators.iter_mut().for_each(ottla_integration_tests::Node::start);
    cluster.brokers[2].wait_ready();
    history.wait_for_full_isrs();
    history.wait_for_progress();
    history.end();
}
