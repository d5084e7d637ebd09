//! Consumer groups.

use std::collections::BTreeMap;

use ottla_protocol::generated::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use ottla_protocol::generated::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use ottla_protocol::generated::list_groups::{ListGroupsRequest, ListGroupsResponse};
use ottla_protocol::generated::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};
use ottla_protocol::wire::Str;

use super::Admin;
use crate::ErrorCode;
use crate::committed::{self, Committer};
use crate::coordinator;
use crate::error::{Error, check};
use crate::group::membership;
use crate::offsets::TopicPartition;
use crate::retry::Retries;

const LIST_GROUPS_VERSIONS: (i16, i16) = (0, 5);
const DESCRIBE_GROUPS_VERSIONS: (i16, i16) = (0, 5);
const DELETE_GROUPS_VERSIONS: (i16, i16) = (0, 2);
const OFFSET_DELETE_VERSIONS: (i16, i16) = (0, 0);
/// What a group is in that does not exist.
const DEAD: &str = "Dead";

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// `consumer` for consumers; others use groups too.
    pub protocol_type: String,
    /// Its state, where the broker tells.
    pub state: Option<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its id.
    pub id: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`.
    pub state: String,
    /// `consumer` for consumers.
    pub protocol_type: String,
    /// The assignor in use.
    pub assignor: String,
    /// The coordinator's broker id.
    pub coordinator: i32,
    /// Those who are in it.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Given by the coordinator.
    pub id: String,
    /// Given by the member, where it is static.
    pub instance_id: Option<String>,
    /// What its client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Its partitions; empty when the group is not one of consumers.
    pub partitions: Vec<TopicPartition>,
}

impl Admin {
    /// All groups of all brokers, by id.
    ///
    /// # Errors
    /// What keeps a broker from answering.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        let mut groups = Vec::new();
        for broker in self.describe_cluster().await?.brokers {
            let mut retries = Retries::new("listing groups", self.client.call_max());
            let response = loop {
                match self.list_groups_of(broker.id).await {
                    Ok(response) => break response,
                    Err(error) => retries.pause(error).await?,
                }
            };
            groups.extend(response.groups.into_iter().map(|group| GroupListing {
                id: group.group_id.to_string(),
                protocol_type: group.protocol_type.to_string(),
                state: (!group.group_state.is_empty()).then(|| group.group_state.to_string()),
            }));
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(groups)
    }

    async fn list_groups_of(&self, broker: i32) -> Result<ListGroupsResponse, Error> {
        let request = ListGroupsRequest::default();
        let (response, _): (ListGroupsResponse, _) =
            self.client.call_broker(broker, &request, LIST_GROUPS_VERSIONS).await?;
        check(response.error_code, |code| Error::Refused {
            what: format!("broker {broker}: ListGroups"),
            code,
            message: None,
        })?;
        Ok(response)
    }

    /// One group with its members.
    ///
    /// # Errors
    /// [`Error::Group`] with `GroupIdNotFound` when there is none.
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, Error> {
        let request =
            DescribeGroupsRequest { groups: vec![Str::from(group)], ..DescribeGroupsRequest::default() };
        let judge = |response: &DescribeGroupsResponse| {
            let said = response.groups.first();
            let said = said.ok_or_else(|| Error::group(group, ErrorCode::UnknownServerError))?;
            check(said.error_code, |code| Error::group(group, code))
        };
        let response =
            coordinator::ask(&self.client, group, &request, DESCRIBE_GROUPS_VERSIONS, judge).await?;
        let said = response.groups.into_iter().next().expect("judged");
        if said.group_state == DEAD {
            return Err(Error::group(group, ErrorCode::GroupIdNotFound));
        }
        let members = said.members.iter().map(|member| GroupMember {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: membership::read_assignment(&member.member_assignment).unwrap_or_default(),
        });
        Ok(DescribedGroup {
            id: said.group_id.to_string(),
            state: said.group_state.to_string(),
            protocol_type: said.protocol_type.to_string(),
            assignor: said.protocol_data.to_string(),
            coordinator: coordinator::find(&self.client, group).await?,
            members: members.collect(),
        })
    }

    /// Deletes a group without members, with its offsets.
    ///
    /// # Errors
    /// [`Error::Group`] with `NonEmptyGroup` or `GroupIdNotFound`.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let request =
            DeleteGroupsRequest { groups_names: vec![Str::from(group)], ..DeleteGroupsRequest::default() };
        let judge = |response: &DeleteGroupsResponse| {
            let said = response.results.first();
            let said = said.ok_or_else(|| Error::group(group, ErrorCode::UnknownServerError))?;
            check(said.error_code, |code| Error::group(group, code))
        };
        coordinator::ask(&self.client, group, &request, DELETE_GROUPS_VERSIONS, judge).await?;
        Ok(())
    }

    /// All offsets that a group has committed.
    ///
    /// # Errors
    /// [`Error::Group`].
    pub async fn committed_offsets(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        committed::fetch(&self.client, group, None).await
    }

    /// Sets the offsets of a group without members.
    ///
    /// # Errors
    /// [`Error::Group`] with `UnknownMemberId` while it has members.
    pub async fn set_committed_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64)],
    ) -> Result<(), Error> {
        committed::commit(&self.client, &Committer::outside(group), offsets).await
    }

    /// Deletes offsets of a group; only of topics that it does not read now.
    ///
    /// # Errors
    /// [`Error::Group`], [`Error::Partition`].
    pub async fn delete_committed_offsets(
        &self,
        group: &str,
        places: &[TopicPartition],
    ) -> Result<(), Error> {
        let mut request =
            OffsetDeleteRequest { group_id: Str::from(group), ..OffsetDeleteRequest::default() };
        for place in places {
            let partition = OffsetDeleteRequestPartition { partition_index: place.partition };
            match request.topics.iter_mut().find(|topic| topic.name == place.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => request.topics.push(OffsetDeleteRequestTopic {
                    name: place.topic.clone(),
                    partitions: vec![partition],
                }),
            }
        }
        let judge = |response: &OffsetDeleteResponse| {
            check(response.error_code, |code| Error::group(group, code))?;
            for topic in &response.topics {
                for partition in &topic.partitions {
                    check(partition.error_code, |code| {
                        Error::partition(&topic.name, partition.partition_index, code)
                    })?;
                }
            }
            Ok(())
        };
        coordinator::ask(&self.client, group, &request, OFFSET_DELETE_VERSIONS, judge).await?;
        Ok(())
    }
}
