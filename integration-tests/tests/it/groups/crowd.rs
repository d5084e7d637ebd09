//! Two hundred members of one group that are restarted all at once.

use std::time::Duration;

use ottla_integration_tests::Broker;
use ottla_integration_tests::crowd::{Crowd, Habits};

const MEMBERS: usize = 200;
const SETTLED_MAX: Duration = Duration::from_secs(30);
/// One would do; each one more is a stop of the whole group.
const GENERATIONS_MAX: i32 = 5;

/// With default settings of the broker; once all leave in order, once all are killed and missed by their session only.
#[test]
fn restarted_at_once_settles_in_few_generations() {
    let broker = Broker::start_default();
    let groups = ["crowd".to_owned()];
    let start = || Crowd::start(broker.address(), &groups, MEMBERS, Habits::default());
    let first = start();
    let begun = first.settle(SETTLED_MAX)[0];
    assert!(begun <= GENERATIONS_MAX, "{begun} generations for the first start");
    first.leave();
    let second = start();
    let left = second.settle(SETTLED_MAX)[0];
    assert!(left > begun && left - begun <= GENERATIONS_MAX, "generation {begun} became {left}");
    drop(second);
    let third = start();
    let killed = third.settle(SETTLED_MAX)[0];
    assert!(killed > left && killed - left <= GENERATIONS_MAX, "generation {left} became {killed}");
    third.leave();
}
