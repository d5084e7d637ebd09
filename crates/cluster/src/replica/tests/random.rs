//! Random runs of the world: whatever fails, nothing that was acknowledged is lost, and when all is well again everything serves.

use super::world::{BROKERS, World};

const SEEDS: u64 = 300;
const STEPS: usize = 1500;

fn step(world: &mut World) {
    let id = world.broker();
    match world.draw(400) {
        0..=1 => world.crash(id),
        2..=9 => world.start(id),
        10 => world.wipe(id),
        // A broker that is up may be cut off for longer than its session.
        11..=12 => {
            let others: Vec<i32> = (1..=BROKERS).filter(|other| *other != id).collect();
            for _ in 0..9 {
                world.pass(500, &others);
            }
        }
        13..=20 => {
            let ms = i64::try_from(world.draw(500)).unwrap();
            world.pass(ms, &[1, 2, 3]);
        }
        21..=80 => world.feed(id),
        81..=110 => world.produce(id),
        111..=180 => world.sync(id),
        181..=270 => world.fetch(id),
        _ => world.deliver(true),
    }
    world.check();
}

/// Everybody is started and everything arrives. False when the only replica with all records has lost its disk.
fn heal(world: &mut World) -> bool {
    for round in 0..400 {
        for id in 1..=BROKERS {
            if !world.nodes[&id].up {
                world.start(id);
            }
        }
        world.pass(100, &[1, 2, 3]);
        for _ in 0..world.unread() {
            (1..=BROKERS).for_each(|id| world.feed(id));
        }
        for id in 1..=BROKERS {
            world.sync(id);
            world.fetch(id);
        }
        for _ in 0..200 {
            world.deliver(false);
        }
        world.check();
        let partition = world.partition().clone();
        let leader = partition.leader;
        if round > 100 && leader.0 < 0 {
            return false;
        }
        if partition.isr.len() == 3 {
            let led = &world.nodes[&leader.0];
            let all = led.replica.high_watermark() == led.replica.local().end;
            if all && world.nodes.values().all(|node| node.log == led.log) {
                return true;
            }
        }
    }
    panic!("no peace after healing: {:?}", world.partition());
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    (0..STEPS).for_each(|_| step(&mut world));
    if heal(&mut world) {
        let before = world.acknowledged.len();
        let leader = world.partition().leader.0;
        world.produce(leader);
        heal(&mut world);
        assert!(world.acknowledged.len() > before, "seed {seed}: the healed cluster serves");
    } else {
        *world.seen.entry("lost with its disk").or_default() += 1;
    }
    world
}

#[test]
fn what_was_acknowledged_survives() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..SEEDS {
        let world = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        for (what, count) in world.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    // The runs are worth something only if these things happen in them.
    for what in ["acknowledged", "crash", "wipe", "truncate", "isr change", "isr refusal"] {
        assert!(seen.get(what).copied().unwrap_or(0) > 100, "{what}: {seen:?}");
    }
    assert!(
        seen.get("lost with its disk").copied().unwrap_or(0) < usize::try_from(SEEDS / 3).unwrap(),
        "{seen:?}"
    );
}

#[test]
fn equal_seeds_make_equal_runs() {
    for seed in [3, 4] {
        let (one, other) = (run(seed), run(seed));
        assert_eq!(one.image, other.image);
        assert_eq!((one.acknowledged, one.seen), (other.acknowledged, other.seen));
    }
}
