//! Replies in the order of their requests, some of which are not ready yet.

use super::{Answer, LaterReply};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Wakes a connection's task from whatever it waits for.
#[derive(Debug, Default)]
pub(crate) struct TaskWaker {
    /// The task's waker as of its last poll.
    waker: Mutex<Option<Waker>>,
    /// Whether some reply's future was woken since the replies were last looked at.
    reply_woken: AtomicBool,
}

impl TaskWaker {
    /// Called at each poll of the task.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock().expect("no panic under this lock");
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().expect("no panic under this lock").clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Tells which of a connection's futures was woken, so that the others need no poll.
#[derive(Debug)]
struct ReplyWaker {
    woken: AtomicBool,
    task: Arc<TaskWaker>,
}

impl Wake for ReplyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.reply_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

enum Waiting {
    Ready(Answer),
    Later { future: LaterReply, waker: Arc<ReplyWaker>, holds: bool },
}

/// The replies of one connection that have not gone to the writer.
pub(crate) struct WaitingReplies {
    task: Arc<TaskWaker>,
    queue: VecDeque<Waiting>,
    /// Wakers of futures that are done, for the next ones. A late wake of a reused waker costs a poll, no more.
    spare: Vec<Arc<ReplyWaker>>,
    /// A reply that holds back the next requests; it is the last one.
    holding: bool,
}

impl WaitingReplies {
    pub(crate) fn new(task: Arc<TaskWaker>) -> WaitingReplies {
        WaitingReplies { task, queue: VecDeque::new(), spare: Vec::new(), holding: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether a reply holds back the next requests.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding
    }

    /// Adds a reply that is ready, behind those that wait.
    pub(crate) fn push_ready(&mut self, answer: Answer) {
        self.queue.push_back(Waiting::Ready(answer));
    }

    /// Adds the end of the connection, behind the replies that wait.
    pub(crate) fn push_close(&mut self, reason: Cow<'static, str>) {
        self.push_ready(Answer::Close(reason));
        self.holding = true;
    }

    /// Adds a reply that comes later and polls it for the first time.
    pub(crate) fn push_later(&mut self, mut future: LaterReply, holds: bool) {
        let waker = self.spare.pop().unwrap_or_else(|| {
            Arc::new(ReplyWaker { woken: AtomicBool::new(false), task: self.task.clone() })
        });
        match poll_reply(&mut future, &waker) {
            Poll::Ready(answer) => {
                self.spare.push(waker);
                self.push_ready(answer);
            }
            Poll::Pending => {
                self.holding = holds;
                self.queue.push_back(Waiting::Later { future, waker, holds });
            }
        }
    }

    /// Polls the futures that were woken.
    pub(crate) fn poll_woken(&mut self) {
        if !self.task.reply_woken.swap(false, Ordering::AcqRel) {
            return;
        }
        for waiting in &mut self.queue {
            let Waiting::Later { future, waker, holds } = waiting else { continue };
            if !waker.woken.load(Ordering::Acquire) {
                continue;
            }
            if let Poll::Ready(answer) = poll_reply(future, waker) {
                if *holds {
                    self.holding = false;
                }
                self.spare.push(waker.clone());
                *waiting = Waiting::Ready(answer);
            }
        }
    }

    /// The first reply, if it is ready.
    pub(crate) fn pop_ready(&mut self) -> Option<Answer> {
        match self.queue.pop_front()? {
            Waiting::Ready(answer) => Some(answer),
            later @ Waiting::Later { .. } => {
                self.queue.push_front(later);
                None
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.holding = false;
    }

    /// Drops all replies from the first one that is not ready.
    pub(crate) fn abandon(&mut self) {
        let ready = self.queue.iter().take_while(|waiting| matches!(waiting, Waiting::Ready(_))).count();
        self.queue.truncate(ready);
        self.holding = false;
    }
}

fn poll_reply(future: &mut LaterReply, waker: &Arc<ReplyWaker>) -> Poll<Answer> {
    // Cleared before the poll: a wake during it is seen at the next look.
    waker.woken.store(false, Ordering::Release);
    future.as_mut().poll(&mut Context::from_waker(&Waker::from(waker.clone())))
}
