//! What becomes of a record: shared by all records of a batch, awaited one by one.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use ottla_protocol::wire::Str;

use crate::error::Error;

/// Where a record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The topic's name.
    pub topic: Str,
    /// The partition's index.
    pub partition: i32,
    /// The record's offset; `None` where the broker does not tell: without acknowledgement, or when an earlier try had
    /// written it already and the broker has forgotten where.
    pub offset: Option<i64>,
    /// The broker's time of writing in milliseconds, on topics that keep that time.
    pub log_append_time_ms: Option<i64>,
}

/// Where a batch was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub base_offset: Option<i64>,
    pub log_append_time_ms: Option<i64>,
}

/// The fate of a batch.
#[derive(Debug)]
pub(super) struct Fate {
    pub topic: Str,
    pub partition: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(Vec<Waker>),
    Known(Result<Written, Error>),
}

impl Fate {
    pub fn new(topic: Str, partition: i32) -> Arc<Fate> {
        Arc::new(Fate { topic, partition, state: Mutex::new(State::Open(Vec::new())) })
    }

    /// Makes it known and wakes those who wait; the first word counts.
    pub fn settle(&self, result: Result<Written, Error>) {
        let wakers = {
            let mut state = self.state.lock().expect("no panic under this lock");
            match &mut *state {
                State::Known(_) => return,
                State::Open(wakers) => {
                    let wakers = std::mem::take(wakers);
                    *state = State::Known(result);
                    wakers
                }
            }
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until it is known, whatever it is.
    pub async fn known(self: Arc<Fate>) {
        std::future::poll_fn(|context| self.poll(context).map(|_result| ())).await;
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Written, Error>> {
        let mut state = self.state.lock().expect("no panic under this lock");
        match &mut *state {
            State::Known(result) => Poll::Ready(result.clone()),
            State::Open(wakers) => {
                // Many records of one batch are often awaited by one task, one after the other.
                if !wakers.last().is_some_and(|last| last.will_wake(context.waker())) {
                    wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

/// A record on its way: a future of its [`Receipt`]. Dropping it does not call the record back.
#[derive(Debug)]
#[must_use = "the record may fail: await it, or drop it on purpose"]
pub struct Delivery {
    pub(super) fate: Arc<Fate>,
    pub(super) index: i32,
}

impl Future for Delivery {
    type Output = Result<Receipt, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.fate.poll(context).map_ok(|written| Receipt {
            topic: self.fate.topic.clone(),
            partition: self.fate.partition,
            offset: written.base_offset.map(|base| base + i64::from(self.index)),
            log_append_time_ms: written.log_append_time_ms,
        })
    }
}
