//! Incremental fetch sessions (KIP-227): the broker remembers what a consumer fetches, the consumer sends only what
//! changed, and the reply leaves out partitions that have nothing new. One table for the broker, bounded by
//! `max.incremental.fetch.session.cache.slots`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use ottla_protocol::wire::Str;

/// How a request names a topic: by name up to version 12, by id from 13.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(Str),
    /// By id.
    Id(Uuid),
}

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The topic.
    pub topic: TopicRef,
    /// Index of the partition.
    pub index: i32,
    /// First offset wanted.
    pub offset: Offset,
    /// Most bytes from this partition.
    pub max_bytes: usize,
    /// Leader epoch that the client knows, -1 for none.
    pub epoch: LeaderEpoch,
    /// What the last reply of the session said: bounds of the log; `None` before the first.
    pub told: Option<(Offset, Offset)>,
}

/// A session: its partitions in the order in which they are served.
#[derive(Debug)]
pub struct Session {
    id: i32,
    state: Mutex<SessionState>,
}

#[derive(Debug)]
struct SessionState {
    /// Epoch that the next request must carry.
    next_epoch: i32,
    by_id: bool,
    partitions: Vec<Wanted>,
}

/// A partition in a reply: its name, the bounds of the log that were told, and whether it got data.
pub type Answered = (TopicRef, i32, (Offset, Offset), bool);

/// What a request asks of its session.
#[derive(Debug)]
pub enum Plan {
    /// No session: fetch this, answer all of it.
    Sessionless(Vec<Wanted>),
    /// A new session or the next round of one: fetch this; a full round answers all of it.
    Round {
        /// The session.
        session: Arc<Session>,
        /// What to fetch, in order.
        wanted: Vec<Wanted>,
        /// Whether partitions without news are answered, too.
        full: bool,
    },
}

impl Session {
    /// The id that the client sends from now on.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Remembers what a reply said: `told` bounds per partition; partitions that got data move to the end of the order,
    /// so that none starves behind a busy one.
    pub fn after_reply(&self, answered: &[Answered]) {
        if answered.is_empty() {
            return;
        }
        let mut state = self.lock();
        let mut front = Vec::with_capacity(state.partitions.len());
        let mut back = Vec::new();
        // Both are in the order of the session. Where a later request has changed that meanwhile, the rest is left as it is,
        // and told once more.
        let mut answered = answered.iter().peekable();
        for mut wanted in std::mem::take(&mut state.partitions) {
            let is_next = |(topic, index, _, _): &&Answered| *index == wanted.index && *topic == wanted.topic;
            match answered.next_if(is_next) {
                Some((_, _, told, had_data)) => {
                    wanted.told = Some(*told);
                    if *had_data { back.push(wanted) } else { front.push(wanted) }
                }
                None => front.push(wanted),
            }
        }
        front.append(&mut back);
        state.partitions = front;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SessionState> {
        self.state.lock().expect("no code panics while it holds a session")
    }
}

/// All sessions of the broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<i32, (Arc<Session>, Instant)>,
    next_id: i32,
}

/// A session that was idle this long may make room for a new one (Kafka's rule).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// What the fields of a fetch request say.
#[derive(Debug)]
pub struct Asked {
    /// `SessionId`; 0 for none.
    pub session_id: i32,
    /// `SessionEpoch`: -1 without or to end a session, 0 for a new one, else the round's number.
    pub session_epoch: i32,
    /// Whether topics are named by id.
    pub by_id: bool,
    /// Partitions to add or change.
    pub wanted: Vec<Wanted>,
    /// Partitions to drop.
    pub forgotten: Vec<(TopicRef, i32)>,
}

impl FetchSessions {
    /// An empty table of at most `slots` sessions.
    #[must_use]
    pub fn new(slots: usize, first_id: i32) -> Self {
        Self { slots, table: Mutex::new(Table { next_id: first_id.max(1), ..Table::default() }) }
    }

    /// Sessions that are kept now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().sessions.len()
    }

    /// What to fetch.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR: the client then starts anew.
    pub fn plan(&self, asked: Asked, now: Instant) -> Result<Plan, ErrorCode> {
        match (asked.session_id, asked.session_epoch) {
            (id, -1) => {
                if id != 0 {
                    self.lock().sessions.remove(&id);
                }
                Ok(Plan::Sessionless(asked.wanted))
            }
            (id, 0) => {
                if id != 0 {
                    self.lock().sessions.remove(&id);
                }
                Ok(self.start(asked, now))
            }
            (id, epoch) => self.next_round(id, epoch, asked, now),
        }
    }

    fn start(&self, asked: Asked, now: Instant) -> Plan {
        let mut table = self.lock();
        if asked.wanted.is_empty() || !table.make_room(self.slots, now) {
            return Plan::Sessionless(asked.wanted);
        }
        let id = table.free_id();
        let state = SessionState { next_epoch: 1, by_id: asked.by_id, partitions: asked.wanted.clone() };
        let session = Arc::new(Session { id, state: Mutex::new(state) });
        table.sessions.insert(id, (session.clone(), now));
        Plan::Round { session, wanted: asked.wanted, full: true }
    }

    fn next_round(&self, id: i32, epoch: i32, asked: Asked, now: Instant) -> Result<Plan, ErrorCode> {
        let session = {
            let mut table = self.lock();
            let (session, used) = table.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
            *used = now;
            session.clone()
        };
        let mut state = session.lock();
        if state.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if state.by_id != asked.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        state.next_epoch = epoch_after(epoch);
        state.change(asked.wanted, &asked.forgotten);
        let wanted = state.partitions.clone();
        drop(state);
        if wanted.is_empty() {
            self.lock().sessions.remove(&id);
            return Ok(Plan::Sessionless(wanted));
        }
        Ok(Plan::Round { session, wanted, full: false })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().expect("no code panics while it holds the sessions")
    }
}

impl SessionState {
    fn change(&mut self, wanted: Vec<Wanted>, forgotten: &[(TopicRef, i32)]) {
        if !wanted.is_empty() {
            let mut at: HashMap<(TopicRef, i32), usize> = HashMap::with_capacity(self.partitions.len());
            for (i, known) in self.partitions.iter().enumerate() {
                at.insert((known.topic.clone(), known.index), i);
            }
            for new in wanted {
                match at.get(&(new.topic.clone(), new.index)) {
                    Some(&i) => {
                        let told = self.partitions[i].told;
                        self.partitions[i] = Wanted { told, ..new };
                    }
                    None => self.partitions.push(new),
                }
            }
        }
        if !forgotten.is_empty() {
            self.partitions
                .retain(|known| !forgotten.iter().any(|(t, i)| *i == known.index && *t == known.topic));
        }
    }
}

impl Table {
    /// Makes room for one more; false when every slot is in use.
    fn make_room(&mut self, slots: usize, now: Instant) -> bool {
        if self.sessions.len() < slots {
            return true;
        }
        let oldest =
            self.sessions.iter().min_by_key(|(_, (_, used))| *used).map(|(id, (_, used))| (*id, *used));
        match oldest {
            Some((id, used)) if now.duration_since(used) >= EVICTABLE_AFTER => {
                self.sessions.remove(&id);
                true
            }
            Some(_) | None => false,
        }
    }

    fn free_id(&mut self) -> i32 {
        loop {
            let id = self.next_id;
            self.next_id = if id == i32::MAX { 1 } else { id + 1 };
            if !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Epochs of a session's requests go round without 0, which begins a session (KIP-227).
pub(crate) fn epoch_after(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(index: i32, offset: i64) -> Wanted {
        let topic = TopicRef::Name("t".into());
        Wanted { topic, index, offset: Offset(offset), max_bytes: 1, epoch: LeaderEpoch::NONE, told: None }
    }

    fn asked(session_id: i32, session_epoch: i32, wanted: Vec<Wanted>) -> Asked {
        Asked { session_id, session_epoch, by_id: false, wanted, forgotten: vec![] }
    }

    fn round(plan: Result<Plan, ErrorCode>) -> (Arc<Session>, Vec<(i32, i64)>) {
        match plan {
            Ok(Plan::Round { session, wanted, .. }) => {
                (session, wanted.iter().map(|w| (w.index, w.offset.0)).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_session_remembers_and_changes() {
        let sessions = FetchSessions::new(10, 7);
        let now = Instant::now();
        let (session, first) = round(sessions.plan(asked(0, 0, vec![wanted(0, 5), wanted(1, 6)]), now));
        assert_eq!((session.id(), first), (7, vec![(0, 5), (1, 6)]));
        session.after_reply(&[(TopicRef::Name("t".into()), 0, (Offset(0), Offset(9)), true)]);
        let (_, second) = round(sessions.plan(asked(7, 1, vec![wanted(0, 9)]), now));
        assert_eq!(second, vec![(1, 6), (0, 9)], "what got data goes to the end");
        let mut forget = asked(7, 2, vec![wanted(2, 0)]);
        forget.forgotten = vec![(TopicRef::Name("t".into()), 1)];
        assert_eq!(round(sessions.plan(forget, now)).1, vec![(0, 9), (2, 0)]);
    }

    #[test]
    fn wrong_rounds_are_refused() {
        let sessions = FetchSessions::new(10, 1);
        let now = Instant::now();
        assert_eq!(sessions.plan(asked(3, 1, vec![]), now).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        round(sessions.plan(asked(0, 0, vec![wanted(0, 0)]), now));
        assert_eq!(sessions.plan(asked(1, 2, vec![]), now).unwrap_err(), ErrorCode::InvalidFetchSessionEpoch);
        let mut by_id = asked(1, 1, vec![]);
        by_id.by_id = true;
        assert_eq!(sessions.plan(by_id, now).unwrap_err(), ErrorCode::FetchSessionTopicIdError);
        assert!(matches!(sessions.plan(asked(1, -1, vec![]), now), Ok(Plan::Sessionless(_))));
        assert_eq!(sessions.count(), 0);
    }

    #[test]
    fn the_table_is_bounded() {
        let sessions = FetchSessions::new(1, 1);
        let now = Instant::now();
        round(sessions.plan(asked(0, 0, vec![wanted(0, 0)]), now));
        assert!(matches!(sessions.plan(asked(0, 0, vec![wanted(0, 0)]), now), Ok(Plan::Sessionless(_))));
        let later = now + EVICTABLE_AFTER;
        assert_eq!(round(sessions.plan(asked(0, 0, vec![wanted(0, 0)]), later)).0.id(), 2);
    }
}
