//! Why a key of Kafka's is not used, said once.

use super::super::Status;
use super::super::Status::NotUsed;

pub(super) const CLUSTER: Status = NotUsed("a partition has one replica until brokers form clusters");
pub(super) const JAVA: Status = NotUsed("names Java classes, which Ottla cannot load");
pub(super) const KERBEROS: Status = NotUsed("Kerberos is not served");
pub(super) const METRICS: Status = NotUsed("metrics are served over HTTP, see ottla.http.listener");
pub(super) const NEW_GROUPS: Status = NotUsed("the group protocol of KIP-848 is not served yet");
pub(super) const NO_BUFFERS: Status =
    NotUsed("no buffers are kept: each write of a group has one of its size");
pub(super) const NO_LINGER: Status = NotUsed("writes of groups are not delayed; many share one fdatasync");
pub(super) const NO_PREALLOCATION: Status = NotUsed("files grow as they are written");
pub(super) const NO_PURGATORY: Status =
    NotUsed("a waiting request is dropped as soon as it is answered; nothing is left to purge");
pub(super) const NO_QUEUE: Status =
    NotUsed("requests are not queued between threads; queued.max.request.bytes bounds their memory");
pub(super) const NO_THREADS: Status = NotUsed("work runs on one thread per core, there are no such pools");
pub(super) const QUORUM: Status =
    NotUsed("the coordinator runs inside the broker, its quorum has one member");
pub(super) const QUOTAS: Status = NotUsed("quotas are not served yet");
pub(super) const SECURITY: Status = NotUsed("listeners are plaintext, without users, for now");
pub(super) const SHARE: Status = NotUsed("share groups are not served");
pub(super) const STREAMS: Status = NotUsed("the streams group protocol is not served");
pub(super) const TIERED: Status = NotUsed("there is no tiered storage");
pub(super) const TOKENS: Status = NotUsed("delegation tokens are not served");
pub(super) const TRANSACTIONS: Status = NotUsed("transactions are not served yet");
