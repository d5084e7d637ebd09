//! What an administrator can do.

mod configs;
mod explain;
mod groups;
mod quorum;
mod topics;

pub use configs::{ConfigChange, ConfigEntry, Resource};
pub use explain::{GroupEvent, GroupExplanation, PartitionExplanation};
pub use groups::{DescribedGroup, GroupListing, GroupMember};
pub use quorum::{Quorum, QuorumNode};
pub use topics::{ClusterInfo, LogDirectory, NewTopic};

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_protocol::wire::Message;

use crate::client::Client;
use crate::consumer::Isolation;
use crate::error::Error;
use crate::offsets::{self, FoundOffset, Position, TopicPartition};
use crate::retry::Retries;

/// What an administrator can do. Each call is retried within the client's limit of a call.
///
/// ```no_run
/// # async fn example(client: ottla_client_sdk::Client) -> Result<(), ottla_client_sdk::Error> {
/// use ottla_client_sdk::NewTopic;
///
/// let admin = client.admin();
/// admin.create_topic(&NewTopic::new("greetings").partitions(3)).await?;
/// for topic in admin.list_topics().await? {
///     println!("{}: {} partitions", topic.name, topic.partitions_count());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Admin {
        Admin { client }
    }

    /// The offsets of positions, asked from each partition's leader.
    ///
    /// # Errors
    /// [`Error::Topic`], [`Error::NoSuchPartition`], and what keeps a leader from answering.
    pub async fn find_offsets(
        &self,
        wanted: &[(TopicPartition, Position)],
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, FoundOffset>, Error> {
        offsets::find(&self.client, wanted, isolation).await
    }

    /// The controller if it is known, or else any broker, is asked until `judge` is content.
    async fn ask_controller<Q: Message, R: Message>(
        &self,
        request: &Q,
        versions: (i16, i16),
        judge: impl Fn(&R) -> Result<(), Error>,
    ) -> Result<R, Error> {
        let mut retries = Retries::new(Q::NAME.trim_end_matches("Request"), self.client.call_max());
        loop {
            let answer = match self.client.cluster().controller_id {
                Some(controller) => self.client.call_broker(controller, request, versions).await,
                None => match self.client.any_connection().await {
                    Ok(connection) => self.client.call_over(&connection, request, versions).await,
                    Err(error) => Err(error),
                },
            };
            match answer.and_then(|(response, _)| judge(&response).map(|()| response)) {
                Ok(response) => return Ok(response),
                Err(error) => {
                    // That there is no such topic is an answer here, not a passing trouble.
                    let is_final = error.code() == Some(crate::ErrorCode::UnknownTopicOrPartition);
                    if is_final {
                        return Err(error);
                    }
                    retries.pause(error).await?;
                    self.client.refresh(&[], false, self.client.cluster().generation, retries.left()).await?;
                }
            }
        }
    }

    /// The client's limit of a request in milliseconds, for requests that carry one.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.request_max().min(Duration::from_secs(3600)).as_millis())
            .expect("an hour fits")
    }
}
