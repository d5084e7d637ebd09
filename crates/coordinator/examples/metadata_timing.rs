//! How long the coordinator takes on this machine's disk: to start, to make 1,000 topics that are asked for at once, to make one topic
//! after the other, and to start again with 10,000 partitions.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::Path;
use std::time::{Duration, Instant};

use ottla_coordinator::{Coordinator, CoordinatorHandle, CoordinatorOptions, OTTLA_FEATURE};
use ottla_protocol::generated::broker_registration::{BrokerRegistrationRequest, Feature};
use ottla_protocol::generated::create_topics::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::ids::Uuid;
use ottla_storage::files::real::RealFiles;

fn start(dir: &Path) -> (Coordinator, CoordinatorHandle) {
    let options =
        CoordinatorOptions::new(RealFiles::shared(), dir.to_owned(), "timing".to_owned(), 1, Uuid([1; 16]));
    Coordinator::start(options).expect("the coordinator starts")
}

async fn create(handle: &CoordinatorHandle, name: &str, num_partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let committed = handle.create_topics(request).await.expect("committed");
    assert_eq!(committed.response.topics[0].error_code, 0);
}

fn say(what: &str, since: Instant) -> Duration {
    let took = since.elapsed();
    println!("{what}: {:.1} ms", took.as_secs_f64() * 1000.0);
    took
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir_in(".").expect("a directory can be made here");
    let began = Instant::now();
    let (coordinator, handle) = start(dir.path());
    say("first start", began);
    let feature = Feature {
        name: OTTLA_FEATURE.into(),
        min_supported_version: 1,
        max_supported_version: 1,
        ..Feature::default()
    };
    let request = BrokerRegistrationRequest {
        broker_id: 1,
        cluster_id: "timing".into(),
        features: vec![feature],
        ..BrokerRegistrationRequest::default()
    };
    handle.register_broker(request).await.expect("registered");

    let began = Instant::now();
    let tasks: Vec<_> = (0..1000)
        .map(|n| {
            let handle = handle.clone();
            tokio::spawn(async move { create(&handle, &format!("together-{n}"), 1).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("created");
    }
    say("1,000 topics asked for at once", began);

    let began = Instant::now();
    for n in 0..100 {
        create(&handle, &format!("alone-{n}"), 1).await;
    }
    say("100 topics one after the other", began);

    let began = Instant::now();
    for n in 0..9 {
        create(&handle, &format!("many-{n}"), 1000).await;
    }
    say("9 topics of 1,000 partitions", began);

    coordinator.stop().expect("stopped in order");
    let began = Instant::now();
    let (coordinator, handle) = start(dir.path());
    say("start with 10,100 partitions after a clean stop", began);
    assert_eq!(handle.image().topic_count(), 1109);
    coordinator.stop().expect("stopped in order");
}
