//! The open connections of a server: who is admitted, who is told to close.

use super::log_gate::LogGate;
use super::waiting::TaskWaker;
use super::{ConnectionInfo, ConnectionLimits, ServerStats, Service};
use crate::limits::{ENDED_LINES_MAX, OVERDRAFT_MAX};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What the server demands of a connection; a later one replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Go on.
    Run = 0,
    /// Read no more requests, give the replies that wait, then close.
    Drain = 1,
    /// Close: nothing moved for long.
    CloseIdle = 2,
    /// Close: the right to exceed the memory for requests was held too long.
    CloseStalled = 3,
    /// Close at once.
    Stop = 4,
}

/// The server's handle on a connection's task.
#[derive(Debug)]
pub(crate) struct ConnectionControl {
    info: Arc<ConnectionInfo>,
    pub(crate) task: Arc<TaskWaker>,
    order: AtomicU8,
    /// The registry's clock when bytes last moved.
    active_at_ms: AtomicU64,
    /// The registry's clock when it went beyond the memory for requests; 0 when it has not.
    overdrawn_at_ms: AtomicU64,
    /// A reply waits for the service, so that silence is no fault of the client's.
    waits: AtomicBool,
}

impl ConnectionControl {
    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Drain,
            2 => Order::CloseIdle,
            3 => Order::CloseStalled,
            _ => Order::Stop,
        }
    }

    fn give(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
        self.task.wake();
    }
}

/// All open connections of a server.
pub(crate) struct Registry {
    service: Arc<dyn Service>,
    stats: Arc<ServerStats>,
    started: Instant,
    /// Milliseconds since the start, plus one; set by each sweep, so that moving bytes costs no clock.
    clock_ms: AtomicU64,
    state: Mutex<State>,
    /// Guards the count of log lines about connections that ended badly.
    ended_badly: Mutex<LogGate>,
}

/// Who is connected, and who may be.
struct State {
    limits: ConnectionLimits,
    connections: HashMap<u64, Arc<ConnectionControl>>,
    per_ip: HashMap<IpAddr, usize>,
    last_id: u64,
    /// When the next connection may be accepted (`max.connection.creation.rate`).
    next_accept: Instant,
}

/// Why a connection was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("max.connections = {0} are open")]
    Total(usize),
    #[error("max.connections.per.ip = {0} are open from this address")]
    PerIp(usize),
}

impl Registry {
    pub(crate) fn new(
        service: Arc<dyn Service>,
        stats: Arc<ServerStats>,
        limits: ConnectionLimits,
    ) -> Registry {
        let started = Instant::now();
        let state = State {
            limits,
            connections: HashMap::new(),
            per_ip: HashMap::new(),
            last_id: 0,
            next_accept: started,
        };
        Registry {
            service,
            stats,
            started,
            clock_ms: AtomicU64::new(1),
            state: Mutex::new(state),
            ended_badly: Mutex::new(LogGate::new(ENDED_LINES_MAX)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    pub(crate) fn set_limits(&self, limits: ConnectionLimits) {
        self.state().limits = limits;
    }

    /// Takes the next place in the creation rate and says how long to wait for it.
    pub(crate) fn accept_delay(&self, now: Instant) -> Duration {
        let mut state = self.state();
        let Some(rate) = state.limits.creation_rate_max else { return Duration::ZERO };
        let gap = Duration::from_secs(1) / rate.max(1);
        // A tenth of a second of the rate may come at once.
        let earliest = now.checked_sub((gap * (rate / 10)).min(Duration::from_millis(100))).unwrap_or(now);
        let turn = state.next_accept.max(earliest);
        state.next_accept = turn + gap;
        turn.saturating_duration_since(now)
    }

    /// Admits a connection, or says why not.
    pub(crate) fn admit(
        self: &Arc<Registry>,
        peer: SocketAddr,
        local: SocketAddr,
        listener: &Arc<str>,
    ) -> Result<Registration, Refusal> {
        let control = {
            let mut state = self.state();
            let ip = peer.ip().to_canonical();
            if let Some(max) = state.limits.total_max.filter(|max| state.connections.len() >= *max) {
                return Err(Refusal::Total(max));
            }
            let from_ip = state.per_ip.get(&ip).copied().unwrap_or(0);
            let per_ip_max = state.limits.per_ip_overrides.get(&ip).copied().or(state.limits.per_ip_max);
            if let Some(max) = per_ip_max.filter(|max| from_ip >= *max) {
                return Err(Refusal::PerIp(max));
            }
            state.last_id += 1;
            let control = Arc::new(ConnectionControl {
                info: Arc::new(ConnectionInfo::new(state.last_id, peer, local, listener.clone())),
                task: Arc::default(),
                order: AtomicU8::new(Order::Run as u8),
                active_at_ms: AtomicU64::new(self.clock_ms.load(Ordering::Relaxed)),
                overdrawn_at_ms: AtomicU64::new(0),
                waits: AtomicBool::new(false),
            });
            state.per_ip.insert(ip, from_ip + 1);
            state.connections.insert(control.info.id(), control.clone());
            control
        };
        self.stats.connections_now.fetch_add(1, Ordering::Relaxed);
        self.stats.connections_total.fetch_add(1, Ordering::Relaxed);
        self.service.opened(&control.info);
        Ok(Registration { control, registry: self.clone() })
    }

    /// Gives every connection this order.
    pub(crate) fn order_all(&self, order: Order) {
        for control in self.state().connections.values() {
            control.give(order);
        }
    }

    /// Sets the clock and closes connections that were idle or overdrawn for too long.
    pub(crate) fn sweep(&self, now: Instant, idle_max: Option<Duration>) {
        let now_ms = 1 + now.saturating_duration_since(self.started).as_millis() as u64;
        self.clock_ms.store(now_ms, Ordering::Relaxed);
        for control in self.state().connections.values() {
            if control.order() != Order::Run {
                continue;
            }
            let overdrawn_at = control.overdrawn_at_ms.load(Ordering::Relaxed);
            let idle_ms = now_ms.saturating_sub(control.active_at_ms.load(Ordering::Relaxed));
            if overdrawn_at > 0 && now_ms.saturating_sub(overdrawn_at) > OVERDRAFT_MAX.as_millis() as u64 {
                control.give(Order::CloseStalled);
            } else if idle_max.is_some_and(|max| u128::from(idle_ms) > max.as_millis())
                && !control.waits.load(Ordering::Relaxed)
            {
                control.give(Order::CloseIdle);
            }
        }
    }

    fn remove(&self, info: &ConnectionInfo) {
        let mut state = self.state();
        state.connections.remove(&info.id());
        let ip = info.peer().ip().to_canonical();
        if let Some(count) = state.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                state.per_ip.remove(&ip);
            }
        }
    }
}

/// A connection's place among the admitted; given back on drop.
pub(crate) struct Registration {
    control: Arc<ConnectionControl>,
    registry: Arc<Registry>,
}

impl Registration {
    pub(crate) fn control(&self) -> &ConnectionControl {
        &self.control
    }

    pub(crate) fn info(&self) -> &Arc<ConnectionInfo> {
        &self.control.info
    }

    /// Whether a log line may say that the connection ended badly, and how many such lines were held back before it.
    pub(crate) fn may_complain(&self) -> Option<u64> {
        self.registry.ended_badly.lock().expect("no panic while it is held").open(Instant::now())
    }

    /// Notes what a poll of the connection has moved (bytes in, bytes out) and how it stands.
    pub(crate) fn account(&self, moved: (u64, u64), requests: u64, waits: bool, overdrawn: bool) {
        let (stats, clock_ms) = (&self.registry.stats, self.registry.clock_ms.load(Ordering::Relaxed));
        if moved != (0, 0) || requests > 0 {
            stats.bytes_in.fetch_add(moved.0, Ordering::Relaxed);
            stats.bytes_out.fetch_add(moved.1, Ordering::Relaxed);
            stats.requests_total.fetch_add(requests, Ordering::Relaxed);
        }
        if moved != (0, 0) || (self.control.waits.load(Ordering::Relaxed) && !waits) {
            self.control.active_at_ms.store(clock_ms, Ordering::Relaxed);
        }
        self.control.waits.store(waits, Ordering::Relaxed);
        if !overdrawn {
            self.control.overdrawn_at_ms.store(0, Ordering::Relaxed);
        } else if self.control.overdrawn_at_ms.load(Ordering::Relaxed) == 0 {
            self.control.overdrawn_at_ms.store(clock_ms, Ordering::Relaxed);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.remove(&self.control.info);
        self.registry.stats.connections_now.fetch_sub(1, Ordering::Relaxed);
        self.registry.service.closed(&self.control.info);
    }
}
