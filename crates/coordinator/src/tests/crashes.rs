//! Power is lost at every operation of a run: what was answered is there, and what is there was asked for in that order.

use std::collections::BTreeSet;

use ottla_storage::files::faulty::Survival;

use super::*;

pub(super) const SURVIVALS: [Survival; 5] =
    [Survival::All, Survival::SyncedOnly, Survival::Prefix, Survival::TornPrefix, Survival::AnyPages];

/// A state of the metadata and the number of file operations after which it had been answered.
pub(super) struct Answered {
    pub(super) operations: usize,
    pub(super) topics: Vec<String>,
}

async fn record() -> (FaultyFiles, Vec<Answered>) {
    let files = FaultyFiles::new();
    let mut answered = vec![Answered { operations: 0, topics: Vec::new() }];
    for round in 0..3 {
        let (coordinator, handle) = start(&files);
        handle.register_broker(registration()).await.unwrap();
        for n in 0..3 {
            create(&handle, &format!("t{round}{n}")).await;
            answered.push(Answered { operations: files.operation_count(), topics: names(&handle.image()) });
        }
        handle.delete_topics(deletion(&format!("t{round}1"))).await.unwrap();
        answered.push(Answered { operations: files.operation_count(), topics: names(&handle.image()) });
        coordinator.stop().unwrap();
    }
    (files, answered)
}

/// Starts on what a crash left: the metadata must be the last answered state, or the one that was being written.
pub(super) fn recover(image: &FaultyFiles, at: usize, answered: &[Answered]) {
    let (coordinator, handle) = start(image);
    let found = names(&handle.image());
    let last = answered.iter().rposition(|state| state.operations <= at).unwrap();
    let allowed = &answered[last..answered.len().min(last + 2)];
    assert!(
        allowed.iter().any(|state| state.topics == found),
        "crash before operation {at}: {found:?}, answered was {:?}",
        answered[last].topics
    );
    assert!(last == 0 || is_registered(&handle.image()));
    let before = handle.image();
    coordinator.stop().unwrap();
    let (_coordinator, handle) = start(image);
    assert_eq!(handle.image(), before, "a second start finds the same");
}

#[tokio::test]
async fn nothing_answered_is_lost() {
    let (files, answered) = record().await;
    let mut distinct = BTreeSet::new();
    for at in 0..=files.operation_count() {
        for survival in SURVIVALS {
            for seed in 0..3 {
                let image = files.crash_image(at, survival, seed);
                if distinct.insert(image.content_hash()) {
                    recover(&image, at, &answered);
                }
            }
        }
    }
    println!("metadata crash images: {} distinct of {} operations", distinct.len(), files.operation_count());
    assert!(distinct.len() > 100);
}
