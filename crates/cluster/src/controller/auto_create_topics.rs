//! Topics that are made because somebody asked for their metadata (`auto.create.topics.enable`).

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::wire::Str;

use super::{Context, Controller, OFFSETS_TOPIC, Outcome};

impl Controller<'_> {
    /// Makes topics with the default number of partitions and replicas, `__consumer_offsets` with its own settings. One that
    /// exists already is no error: two clients may have asked at once.
    pub fn auto_create_topics(
        &mut self,
        names: &[Str],
        context: &mut Context<'_>,
    ) -> Outcome<CreateTopicsResponse> {
        let mut distinct: Vec<&Str> = names.iter().collect();
        distinct.sort_unstable();
        distinct.dedup();
        let topics = distinct.into_iter().map(|name| match name.as_str() {
            OFFSETS_TOPIC => self.offsets_topic(),
            _ => CreatableTopic {
                name: name.clone(),
                num_partitions: -1,
                replication_factor: -1,
                ..CreatableTopic::default()
            },
        });
        let request = CreateTopicsRequest { topics: topics.collect(), ..CreateTopicsRequest::default() };
        let mut outcome = self.create_topics(&request, context);
        for result in &mut outcome.response.topics {
            if result.error_code != ErrorCode::TopicAlreadyExists.code() {
                continue;
            }
            if let Some(topic) = self.image.topic_by_name(&result.name) {
                (result.error_code, result.error_message) = (ErrorCode::None.code(), None);
                result.topic_id = topic.id;
                result.num_partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            }
        }
        outcome
    }
}
