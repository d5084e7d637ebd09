//! This broker's life as the controller sees it: it says that it lives, serves when it is told that it may, is fenced when nobody hears
//! it, registers anew when its registration is gone, and hands its leadership over before it stops.
//!
//! Runs on the control runtime: a disk that hangs is no reason not to be heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ottla_cluster::image::MetadataImage;
use ottla_coordinator::CoordinatorHandle;
use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::broker_heartbeat::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use ottla_protocol::generated::broker_registration::BrokerRegistrationRequest;
use ottla_protocol::ids::{BrokerId, Uuid};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::limits::{CONTROLLED_SHUTDOWN_MAX, STOPPING_HEARTBEAT_INTERVAL};
use crate::registration;

/// What the broker wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// It starts: it lives, and leads nothing yet.
    Wait,
    /// It serves.
    Serve,
    /// It is about to stop.
    Stop,
}

/// What the controller has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Others lead.
    Fenced,
    /// It may lead.
    Serving,
    /// It leads nothing, and everybody knows.
    MayStop,
}

/// Shared by the heartbeats and those who ask how the broker stands.
#[derive(Debug)]
pub struct Life {
    id: BrokerId,
    epoch: AtomicI64,
    wish: watch::Sender<Wish>,
    standing: watch::Sender<Standing>,
}

/// What heartbeats are made of, and whom they concern.
pub struct Heart {
    /// Where they go.
    pub handle: CoordinatorHandle,
    /// For another registration.
    pub registration: BrokerRegistrationRequest,
    /// What this broker has applied.
    pub image: watch::Receiver<Arc<MetadataImage>>,
    /// Ids of the log directories that have failed.
    pub offline: Box<dyn Fn() -> Vec<Uuid> + Send>,
    /// Told each new epoch of the broker.
    pub registered: Box<dyn Fn(i64) + Send>,
    /// Told whether the broker is fenced, each time that changes.
    pub fenced: Box<dyn Fn(bool) + Send>,
    /// `broker.heartbeat.interval.ms`.
    pub interval: Duration,
    /// `broker.session.timeout.ms`: without an answer for so long, others take this broker for dead.
    pub session: Duration,
}

/// The running heartbeats.
#[derive(Debug)]
pub struct Pulse {
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl Pulse {
    /// Says no more that the broker lives.
    pub async fn stop(self) {
        drop(self.stop);
        // A task that panicked has been reported by the panic itself.
        self.task.await.ok();
    }
}

impl Life {
    /// Of the broker that was registered with `epoch`.
    #[must_use]
    pub fn new(id: BrokerId, epoch: i64) -> Arc<Self> {
        let (wish, standing) = (watch::channel(Wish::Wait).0, watch::channel(Standing::Fenced).0);
        Arc::new(Self { id, epoch: AtomicI64::new(epoch), wish, standing })
    }

    /// The broker's epoch: the one of its last registration.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Asks the controller to let this broker lead, and waits until it does and this broker knows so. Cancel-safe.
    pub async fn serve(&self, mut image: watch::Receiver<Arc<MetadataImage>>) {
        self.wish.send_replace(Wish::Serve);
        let mut standing = self.standing.subscribe();
        // Neither sender is dropped while there is a life.
        if standing.wait_for(|standing| *standing == Standing::Serving).await.is_ok() {
            let serves = |image: &Arc<MetadataImage>| image.broker(self.id).is_some_and(|own| !own.fenced);
            image.wait_for(serves).await.ok();
        }
    }

    /// Hands leadership over to others, if there are any, and waits until they have it; not for ever.
    pub async fn prepare_stop(&self, image: &MetadataImage) {
        let others = image.brokers().any(|broker| broker.id != self.id && !broker.fenced);
        if !others || *self.standing.borrow() != Standing::Serving {
            return;
        }
        let started = Instant::now();
        self.wish.send_replace(Wish::Stop);
        let mut standing = self.standing.subscribe();
        let told = standing.wait_for(|standing| *standing == Standing::MayStop);
        let took_ms = |started: Instant| started.elapsed().as_millis();
        match tokio::time::timeout(CONTROLLED_SHUTDOWN_MAX, told).await {
            Ok(_) => tracing::info!(took_ms = took_ms(started), "other brokers lead now"),
            Err(_) => tracing::warn!(
                waited_ms = took_ms(started),
                "the controller did not move all leadership to other brokers in time; stopping nevertheless"
            ),
        }
    }

    /// Says that the broker lives, on `runtime`, until the pulse is stopped or dropped.
    #[must_use]
    pub fn begin(self: Arc<Self>, heart: Heart, runtime: &Handle) -> Pulse {
        let stop = CancellationToken::new();
        let task = runtime.spawn(self.run(heart, stop.clone()));
        Pulse { task, stop: stop.drop_guard() }
    }

    async fn run(self: Arc<Self>, mut heart: Heart, stop: CancellationToken) {
        let mut wish = self.wish.subscribe();
        let mut answered = Instant::now();
        loop {
            let wanted = *wish.borrow_and_update();
            if wanted == Wish::Wait && self.is_admitted(&heart) {
                // A heartbeat would have to say that it does not serve yet, and cost it what it leads.
                tokio::select! {
                    _ = wish.changed() => continue,
                    () = stop.cancelled() => return,
                }
            }
            // Cancel-safe: what a heartbeat that is given up has done is told by the next.
            let beat = tokio::select! {
                beat = self.beat(&mut heart, wanted) => beat,
                () = stop.cancelled() => return,
            };
            match beat {
                true => answered = Instant::now(),
                false if answered.elapsed() > heart.session => self.become_fenced(&heart),
                false => {}
            }
            let pause = if wanted == Wish::Stop { STOPPING_HEARTBEAT_INTERVAL } else { heart.interval };
            // All branches are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = wish.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// A broker in the process of the controller leads from its registration on, and is taken to live until its first heartbeat.
    fn is_admitted(&self, heart: &Heart) -> bool {
        heart.image.borrow().broker(self.id).is_some_and(|own| !own.fenced)
    }

    /// One heartbeat; whether it was answered.
    async fn beat(&self, heart: &mut Heart, wish: Wish) -> bool {
        let index = heart.image.borrow_and_update().index();
        let request = BrokerHeartbeatRequest {
            broker_id: self.id.0,
            broker_epoch: self.epoch(),
            current_metadata_offset: index,
            want_fence: wish == Wish::Wait,
            want_shut_down: wish == Wish::Stop,
            offline_log_dirs: (heart.offline)(),
            ..BrokerHeartbeatRequest::default()
        };
        let response = match heart.handle.broker_heartbeat(request).await {
            Ok(decided) => decided.response,
            Err(error) => {
                tracing::warn!(%error, "a heartbeat was not answered");
                return false;
            }
        };
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {
                self.note(heart, &response, wish);
                true
            }
            Some(code @ (ErrorCode::StaleBrokerEpoch | ErrorCode::BrokerIdNotRegistered)) => {
                self.register_again(heart, code).await;
                true
            }
            code => {
                let code = code.map_or("unknown", ErrorCode::name);
                tracing::warn!(code, "the controller refuses a heartbeat");
                false
            }
        }
    }

    fn note(&self, heart: &Heart, response: &BrokerHeartbeatResponse, wish: Wish) {
        if response.should_shut_down {
            self.standing.send_replace(Standing::MayStop);
        } else if response.is_fenced {
            self.become_fenced(heart);
        } else if wish == Wish::Serve {
            let before = self.standing.send_replace(Standing::Serving);
            if before == Standing::Fenced {
                tracing::info!(epoch = self.epoch(), "this broker serves");
                (heart.fenced)(false);
            }
        }
    }

    fn become_fenced(&self, heart: &Heart) {
        if self.standing.send_replace(Standing::Fenced) == Standing::Serving {
            tracing::warn!("this broker is fenced: others lead until the controller hears it again");
            (heart.fenced)(true);
        }
    }

    /// The registration is gone: an administrator took it away, or the coordinators know another process of this id.
    async fn register_again(&self, heart: &mut Heart, code: ErrorCode) {
        tracing::warn!(
            code = code.name(),
            "the controller does not know this broker's registration: registering anew"
        );
        self.become_fenced(heart);
        // What the epoch of an orderly stop would say is not true of a process that runs.
        heart.registration.previous_broker_epoch = -1;
        match registration::register(&heart.handle, &heart.registration).await {
            Ok(epoch) => {
                self.epoch.store(epoch, Ordering::Relaxed);
                (heart.registered)(epoch);
            }
            Err(error) => tracing::error!("this broker cannot register: {error:#}"),
        }
    }
}
