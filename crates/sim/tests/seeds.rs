//! A few seeds, as unit tests go; `make sim` runs two thousand.

use ottla_sim::run;

#[test]
fn equal_seeds_make_equal_traces() {
    let (one, other, another) = (run(7, false), run(7, false), run(8, false));
    assert_eq!((one.trace, one.events, &one.seen), (other.trace, other.events, &other.seen));
    assert_ne!(one.trace, another.trace);
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..6 {
        let report = run(seed, false);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        assert_eq!(report.simulated_us, 60_000_000);
        for (what, count) in report.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    // The runs are worth something only if these things happen in them.
    let needed = [
        "acknowledged",
        "assignments",
        "commits",
        "controllers",
        "cut off",
        "elections",
        "group loads",
        "isr changes",
        "kills",
        "power losses",
        "truncations",
        "twice",
    ];
    for what in needed {
        assert!(seen.get(what).copied().unwrap_or(0) > 0, "{what} never happened: {seen:?}");
    }
}
