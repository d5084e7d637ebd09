//! Random lives of brokers and partitions. After every step the metadata must be sound, and what was in sync must not be lost.

use proptest::prelude::*;

use super::*;

const BROKERS: i32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Start { id: i32, wiped: bool },
    Beat { id: i32, stop: bool },
    Kill { id: i32 },
    Pass { ms: i64 },
    Isr { topic: usize, members: u8 },
    Reassign { topic: usize, replicas: Option<u8> },
    Elect { unclean: bool },
    Unregister { id: i32 },
}

fn step(unclean: bool) -> impl Strategy<Value = Step> {
    let id = || 1..=BROKERS;
    prop_oneof![
        3 => (id(), prop::bool::weighted(0.2)).prop_map(|(id, wiped)| Step::Start { id, wiped }),
        8 => (id(), prop::bool::weighted(0.1)).prop_map(|(id, stop)| Step::Beat { id, stop }),
        3 => id().prop_map(|id| Step::Kill { id }),
        2 => (1i64..5000).prop_map(|ms| Step::Pass { ms }),
        6 => (0..3usize, 0u8..16).prop_map(|(topic, members)| Step::Isr { topic, members }),
        2 => (0..3usize, prop::option::of(1u8..16)).prop_map(|(topic, replicas)| Step::Reassign { topic, replicas }),
        1 => Just(Step::Elect { unclean }),
        1 => id().prop_map(|id| Step::Unregister { id }),
    ]
}

fn members(bits: u8) -> Vec<i32> {
    (1..=BROKERS).filter(|id| bits & (1 << (id - 1)) != 0).collect()
}

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// A cluster and which disk each broker has.
struct World {
    c: Cluster,
    disks: [u8; 5],
    processes: u8,
}

impl World {
    fn new() -> Self {
        let mut c = Cluster::new(BROKERS, &[]);
        let made = [&[1, 2, 3][..], &[2, 3], &[4]];
        let topics =
            TOPICS.iter().zip(made).map(|(name, replicas)| assigned(name, &[(0, replicas)])).collect();
        c.script.create(topics, false);
        Self { c, disks: [0, 1, 2, 3, 4], processes: 10 }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Start { id, wiped } => {
                let place = usize::try_from(*id).unwrap();
                self.processes += 1;
                let disk = if *wiped { self.processes } else { self.disks[place] };
                let request = BrokerRegistrationRequest {
                    incarnation_id: Uuid([self.processes; 16]),
                    log_dirs: vec![Uuid([disk; 16])],
                    ..registration(*id, -1)
                };
                let before = self.c.epoch(*id);
                self.c.admit_as(&request);
                // One that was refused ends again and has changed nothing.
                if self.c.epoch(*id) != before {
                    self.disks[place] = disk;
                }
            }
            Step::Beat { id, stop } => {
                let request = BrokerHeartbeatRequest { want_shut_down: *stop, ..self.c.heartbeat(*id) };
                self.c.beat_as(&request);
            }
            Step::Kill { id } => self.c.kill(*id),
            Step::Pass { ms } => self.c.pass(*ms, &[1, 2]),
            Step::Isr { topic, members: bits } => self.c.isr(TOPICS[*topic], &members(*bits)),
            Step::Reassign { topic, replicas } => {
                let replicas = replicas.map(members);
                self.c.reassign(TOPICS[*topic], replicas.as_deref());
            }
            Step::Elect { unclean } => self.c.elect(i8::from(*unclean), None),
            Step::Unregister { id } => self.c.unregister(*id),
        }
    }
}

fn check_partition(image: &MetadataImage, before: &PartitionImage, now: &PartitionImage) {
    let what = format!("{before:?}\n{now:?}");
    assert!(!now.isr.is_empty() && !now.replicas.is_empty(), "{what}");
    let distinct = |ids: &[BrokerId]| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    assert!(distinct(&now.isr) && distinct(&now.replicas), "{what}");
    assert!(now.isr.iter().all(|id| now.replicas.contains(id)), "{what}");
    assert_eq!(now.directories.len(), now.replicas.len(), "{what}");
    for id in now.adding.iter().chain(&now.removing) {
        assert!(now.replicas.contains(id), "{what}");
    }
    if now.leader.0 >= 0 {
        assert!(now.isr.contains(&now.leader), "{what}");
        let broker = image.broker(now.leader).unwrap();
        assert!(!broker.fenced && !broker.in_controlled_shutdown, "{what}");
        let place = now.replicas.iter().position(|id| *id == now.leader).unwrap();
        assert!(broker.log_dirs.contains(&now.directories[place]), "{what}");
    }
    for id in now.isr.iter().filter(|_| now.isr.len() > 1) {
        let broker = image.broker(*id).unwrap();
        assert!(
            !broker.fenced && !broker.in_controlled_shutdown,
            "who does not serve is not in sync: {what}"
        );
    }
    // Epochs never go back, and a new leader never keeps the old leader's epoch.
    assert!(
        now.partition_epoch >= before.partition_epoch && now.leader_epoch >= before.leader_epoch,
        "{what}"
    );
    if now != before {
        assert!(now.partition_epoch > before.partition_epoch, "{what}");
    }
    if now.leader != before.leader {
        assert!(now.leader_epoch > before.leader_epoch, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_metadata_stays_sound(steps in prop::collection::vec(step(true), 1..80)) {
        let (mut world, mut again) = (World::new(), World::new());
        for step in &steps {
            let before = world.c.script.image().clone();
            world.run(step);
            let now = world.c.script.image();
            for topic in now.topics() {
                check_partition(now, before.partition(topic.id, 0).unwrap(), &topic.partitions[0]);
            }
            again.run(step);
        }
        prop_assert_eq!(world.c.script.image(), again.c.script.image());
        prop_assert_eq!(&world.c.script.text, &again.c.script.text);
    }

    // Who has all records is modelled: the members of an ISR that a leader asked for, on the disk they had then. Without unclean
    // elections a leader must always be one of them.
    #[test]
    fn a_leader_always_has_what_was_in_sync(steps in prop::collection::vec(step(false), 1..80)) {
        let mut world = World::new();
        let complete = |world: &World, topic: &str| -> BTreeSet<(i32, u8)> {
            let partition = world.c.script.image().topic_by_name(topic).unwrap().partitions[0].clone();
            partition.isr.iter().map(|id| (id.0, world.disks[usize::try_from(id.0).unwrap()])).collect()
        };
        let mut have: Vec<_> = TOPICS.iter().map(|topic| complete(&world, topic)).collect();
        for step in &steps {
            let before = world.c.script.image().clone();
            world.run(step);
            if let Step::Isr { topic, members: bits } = step
                && *world.c.script.image() != before
            {
                // Whom a leader asks for has caught up.
                let disk = |id: i32| world.disks[usize::try_from(id).unwrap()];
                have[*topic].extend(members(*bits).into_iter().map(|id| (id, disk(id))));
            }
            for (topic, have) in TOPICS.iter().zip(&mut have) {
                let partition = world.c.script.image().topic_by_name(topic).unwrap().partitions[0].clone();
                if partition.leader.0 < 0 {
                    continue;
                }
                let disk = world.disks[usize::try_from(partition.leader.0).unwrap()];
                prop_assert!(have.contains(&(partition.leader.0, disk)), "{:?} has not {:?}", partition, have);
                // The leader takes writes: from now on only those in sync with it have all.
                *have = complete(&world, topic);
            }
        }
        // When all come back on the disks they had last, every partition that is not lost is led again.
        for id in 1..=BROKERS {
            world.c.kill(id);
            world.run(&Step::Start { id, wiped: false });
            world.c.beat(id);
        }
        for (topic, have) in TOPICS.iter().zip(&have) {
            let partition = world.c.script.image().topic_by_name(topic).unwrap().partitions[0].clone();
            let kept = partition.isr.iter().any(|id| have.contains(&(id.0, world.disks[usize::try_from(id.0).unwrap()])));
            prop_assert_eq!(partition.leader.0 >= 0, kept, "{:?} {:?}", partition, have);
        }
    }
}
