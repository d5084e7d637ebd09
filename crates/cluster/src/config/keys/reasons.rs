//! Why a key of Kafka's is not used, said once.

use super::super::Status;
use super::super::Status::NotUsed;

pub(super) const JAVA: Status = NotUsed("names Java classes, which Ottla cannot load");
pub(super) const KERBEROS: Status = NotUsed("Kerberos is not served");
pub(super) const METADATA_LOG: Status =
    NotUsed("the metadata log has limits of its own: a snapshot now and then takes the place of old entries");
pub(super) const METRICS: Status = NotUsed("metrics are served over HTTP, see ottla.http.listener");
pub(super) const NEW_GROUPS: Status = NotUsed("the group protocol of KIP-848 is not served yet");
pub(super) const NO_BUFFERS: Status =
    NotUsed("no buffers are kept: each write of a group has one of its size");
pub(super) const NO_EARLY_START: Status = NotUsed("all listeners open when the broker is ready to serve");
pub(super) const NO_IDLE_ENTRIES: Status = NotUsed("nothing is written while nothing changes");
pub(super) const NO_LINGER: Status = NotUsed("writes of groups are not delayed; many share one fdatasync");
pub(super) const NO_PREALLOCATION: Status = NotUsed("files grow as they are written");
pub(super) const NO_PURGATORY: Status =
    NotUsed("a waiting request is dropped as soon as it is answered; nothing is left to purge");
pub(super) const NO_QUEUE: Status =
    NotUsed("requests are not queued between threads; queued.max.request.bytes bounds their memory");
pub(super) const NO_THREADS: Status = NotUsed("work runs on one thread per core, there are no such pools");
pub(super) const PATIENT: Status =
    NotUsed("a broker waits for its coordinators as long as it takes, and says so in the log");
pub(super) const QUOTAS: Status = NotUsed("quotas are not served yet");
pub(super) const RAFT: Status = NotUsed("the quorum is one of Raft, with intervals and sizes of its own");
pub(super) const SECURITY: Status = NotUsed("listeners are plaintext, without users, for now");
pub(super) const SHARE: Status = NotUsed("share groups are not served");
pub(super) const STREAMS: Status = NotUsed("the streams group protocol is not served");
pub(super) const TIERED: Status = NotUsed("there is no tiered storage");
pub(super) const TOKENS: Status = NotUsed("delegation tokens are not served");
pub(super) const TRANSACTIONS: Status = NotUsed("transactions are not served yet");
