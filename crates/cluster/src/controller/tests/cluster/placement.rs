//! Where replicas go.

use std::collections::BTreeMap;

use super::*;

/// How many leaders and replicas each broker has.
fn loads(image: &MetadataImage) -> BTreeMap<i32, (usize, usize)> {
    let mut loads: BTreeMap<i32, (usize, usize)> = image.brokers().map(|b| (b.id.0, (0, 0))).collect();
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        loads.get_mut(&partition.replicas[0].0).unwrap().0 += 1;
        for id in &partition.replicas {
            loads.get_mut(&id.0).unwrap().1 += 1;
        }
    }
    loads
}

#[track_caller]
fn assert_even(loads: &BTreeMap<i32, (usize, usize)>, leaders_apart: usize, replicas_apart: usize) {
    let apart = |of: &dyn Fn(&(usize, usize)) -> usize| {
        let most = loads.values().map(of).max().unwrap();
        most - loads.values().map(of).min().unwrap()
    };
    assert!(apart(&|load| load.0) <= leaders_apart, "leaders: {loads:?}");
    assert!(apart(&|load| load.1) <= replicas_apart, "replicas: {loads:?}");
}

#[test]
fn one_large_topic_and_many_small_ones_spread_alike() {
    let mut c = Cluster::new(6, &[]);
    c.script.create(vec![topic("large", 60, 3)], false);
    assert_even(&loads(c.script.image()), 0, 1);
    let small: Vec<_> = (0..60).map(|n| topic(&format!("s{n}"), 1, 3)).collect();
    c.script.create(small, false);
    assert_even(&loads(c.script.image()), 1, 2);
    // When a broker fails, the others share what it led.
    let followers: Vec<_> = (1..=6)
        .map(|id| {
            let large = c.script.image().topic_by_name("large").unwrap().clone();
            let led = large.partitions.iter().filter(|p| p.replicas[0].0 == id).map(|p| p.replicas[1]);
            led.collect::<BTreeSet<_>>().len()
        })
        .collect();
    assert!(followers.iter().all(|distinct| *distinct >= 3), "{followers:?}");
}

#[test]
fn a_topic_that_grows_stays_even() {
    let mut c = Cluster::new(4, &[]);
    c.script.create(vec![topic("a", 1, 2)], false);
    for count in 2..=12 {
        c.script.grow("a", count, None);
    }
    assert_even(&loads(c.script.image()), 0, 1);
}

#[test]
fn every_partition_stands_in_as_many_racks_as_it_can() {
    let mut c = Cluster::new(0, &[]);
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")] {
        let request = BrokerRegistrationRequest { rack: Some(rack.into()), ..registration(id, -1) };
        c.admit_as(&request);
        c.beat(id);
    }
    c.script.create(vec![topic("a", 30, 3), topic("b", 30, 4)], false);
    let rack = |id: BrokerId| (id.0 + 1) / 2;
    for partition in c.script.image().topics().flat_map(|topic| &topic.partitions) {
        let racks: BTreeSet<_> = partition.replicas.iter().map(|id| rack(*id)).collect();
        assert_eq!(racks.len(), 3, "{partition:?}");
    }
    assert_even(&loads(c.script.image()), 0, 2);
}

#[test]
fn fenced_brokers_are_taken_last_and_do_not_lead() {
    let mut c = Cluster::new(3, &[]);
    c.kill(2);
    c.script.create(vec![topic("a", 6, 2), topic("b", 2, 3), topic("c", 1, 4)], false);
    let image = c.script.image();
    let replicas = |name: &str| image.topic_by_name(name).unwrap().partitions.clone();
    assert!(replicas("a").iter().all(|p| !p.replicas.contains(&BrokerId(2))));
    for partition in replicas("b") {
        assert_eq!(partition.replicas[2], BrokerId(2));
        assert_eq!(partition.isr, partition.replicas[..2]);
    }
    assert!(image.topic_by_name("c").is_none());
}

#[test]
fn internal_topics_rise_to_their_replication_factor_as_brokers_join() {
    let mut c = Cluster::new(1, &[]);
    c.script.create(vec![topic("__consumer_offsets", 6, 1), topic("mine", 6, 1)], false);
    c.pass(10_000, &[1]);
    for id in 2..=4 {
        c.admit(id, 1);
        c.beat(id);
        c.script.text.clear();
        c.pass(0, &[]);
        let expected = if id <= 3 { "6 partition(s) of __consumer_offsets get more replicas" } else { "" };
        c.check(expected);
        // A move that is under way is left alone.
        c.pass(10_000, &(1..=id).collect::<Vec<_>>());
        c.check("");
        catch_up(&mut c);
    }
    let raised = c.script.image().topic_by_name("__consumer_offsets").unwrap().clone();
    let mut preferred = BTreeMap::new();
    for partition in &raised.partitions {
        assert_eq!((partition.replicas.len(), partition.isr.len()), (3, 3), "{partition:?}");
        assert!(partition.adding.is_empty());
        *preferred.entry(partition.replicas[0]).or_insert(0) += 1;
    }
    assert_eq!(preferred.into_values().collect::<Vec<_>>(), [2, 2, 2], "preferred leaders are spread, too");
    let mine = c.script.image().topic_by_name("mine").unwrap();
    assert!(mine.partitions.iter().all(|partition| partition.replicas.len() == 1));
}

/// All replicas of all partitions come into the ISR.
fn catch_up(c: &mut Cluster) {
    let topics: Vec<_> = c.script.image().topics().cloned().collect();
    for topic in topics {
        for (number, partition) in topic.partitions() {
            let mut request = c.altered(partition.leader.0, &topic.name, &[]);
            let asked = &mut request.topics[0].partitions[0];
            asked.partition_index = number;
            asked.leader_epoch = partition.leader_epoch.0;
            asked.partition_epoch = partition.partition_epoch;
            asked.new_isr = partition.replicas.iter().map(|id| id.0).collect();
            c.isr_as(&request);
        }
    }
    c.script.text.clear();
}
