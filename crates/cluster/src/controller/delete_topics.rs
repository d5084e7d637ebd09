//! DeleteTopics, by name or by id.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ottla_protocol::generated::records::RemoveTopicRecord;
use ottla_protocol::ids::Uuid;
use ottla_protocol::wire::Str;

use super::internal_topics::refuse_internal;
use super::{Controller, Outcome, Refusal, code_and_message};
use crate::image::TopicImage;

impl Controller<'_> {
    /// Deletes topics, each by itself. Versions up to 5 name them in `topic_names`, later ones in `topics` by name or id.
    pub fn delete_topics(&mut self, request: &DeleteTopicsRequest) -> Outcome<DeleteTopicsResponse> {
        let by_name = request
            .topic_names
            .iter()
            .map(|name| DeleteTopicState { name: Some(name.clone()), ..DeleteTopicState::default() });
        let mut records = Vec::new();
        let mut responses = Vec::new();
        let mut deleted = BTreeSet::new();
        for state in by_name.chain(request.topics.iter().cloned()) {
            let found = self.find(&state).and_then(|topic| {
                // Named twice, perhaps once by its id.
                if deleted.contains(&topic.id) {
                    return Err((ErrorCode::InvalidRequest, "Duplicate topic name or id.".to_owned()));
                }
                refuse_internal(&topic.name, "it cannot be deleted")?;
                Ok(topic)
            });
            match found {
                Ok(topic) => {
                    deleted.insert(topic.id);
                    records.push(
                        RemoveTopicRecord { topic_id: topic.id, ..RemoveTopicRecord::default() }.into(),
                    );
                    responses.push(DeletableTopicResult {
                        name: Some(Str::from(&*topic.name)),
                        topic_id: topic.id,
                        ..DeletableTopicResult::default()
                    });
                }
                Err(refusal) => responses.push(refused(&state, refusal)),
            }
        }
        self.decided(&records);
        Outcome { records, response: DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() } }
    }

    fn find(&self, state: &DeleteTopicState) -> Result<Arc<TopicImage>, Refusal> {
        if !self.settings.delete_topic_enable {
            return Err((ErrorCode::TopicDeletionDisabled, "Topic deletion is disabled.".to_owned()));
        }
        let id = state.topic_id;
        match &state.name {
            Some(_) if !id.is_zero() => {
                let text = "Neither topic name nor id were specified, or both were.".to_owned();
                Err((ErrorCode::InvalidRequest, text))
            }
            Some(name) => self.image.topic_by_name(name).cloned().ok_or_else(|| {
                (
                    ErrorCode::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.".to_owned(),
                )
            }),
            None if id == Uuid::ZERO => {
                Err((ErrorCode::InvalidRequest, "Neither topic name nor id were specified.".to_owned()))
            }
            None => self.image.topic_by_id(&id).cloned().ok_or_else(|| {
                (ErrorCode::UnknownTopicId, "This server does not host this topic ID.".to_owned())
            }),
        }
    }
}

fn refused(state: &DeleteTopicState, refusal: Refusal) -> DeletableTopicResult {
    let (error_code, error_message) = code_and_message(refusal);
    DeletableTopicResult {
        name: state.name.as_ref().map(Str::detached),
        topic_id: state.topic_id,
        error_code,
        error_message,
        ..DeletableTopicResult::default()
    }
}
