//! A few seeds, so that what the simulation needs of the machines stays as it is; `make sim` runs two thousand.

use ottla_sim::{Report, run};

/// Runs a seed, in which nothing may be violated.
fn clean(seed: u64) -> Report {
    let report = run(seed, false);
    assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
    report
}

#[test]
fn equal_seeds_have_equal_traces_and_others_do_not() {
    let (one, again, other) = (clean(7), clean(7), clean(8));
    assert_eq!((one.trace, one.events), (again.trace, again.events));
    assert_ne!(one.trace, other.trace);
    assert!(one.simulated_us >= 60_000_000, "a seed is a minute: {} us", one.simulated_us);
}

#[test]
fn nothing_is_violated_in_the_first_seeds() {
    for seed in 0..4 {
        clean(seed);
    }
}
