//! ApiVersions: exactly what is served, plus the oldest Produce versions that librdkafka looks for; the levels of features that this
//! broker can work with, and those that the cluster has finalized.

use ottla_cluster::features::Features;
use ottla_protocol::generated::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_protocol::generated::{ApiKey, ErrorCode, ResponseHeader};
use ottla_protocol::wire::Writer;
use ottla_transport::server::{ClientSoftware, ConnectionInfo, Reply, ReplyFrame};

use crate::dispatch::Call;
use crate::state::State;

/// Answers ApiVersions, and remembers what the client calls itself.
pub fn handle(
    state: &State,
    request: &ApiVersionsRequest,
    connection: &ConnectionInfo,
) -> ApiVersionsResponse {
    if !request.client_software_name.is_empty() {
        let valid = is_software_text(&request.client_software_name)
            && is_software_text(&request.client_software_version);
        if !valid {
            return ApiVersionsResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..Default::default()
            };
        }
        let name = request.client_software_name.to_string();
        let version = request.client_software_version.to_string();
        connection.set_client_software(ClientSoftware { name, version });
    }
    let image = state.image();
    let features: Vec<_> = image.features().collect();
    ApiVersionsResponse {
        api_keys: ranges(),
        supported_features: Features::known()
            .iter()
            .map(|(name, levels)| SupportedFeatureKey {
                name: name.into(),
                min_version: levels.min,
                max_version: levels.max,
                ..Default::default()
            })
            .collect(),
        finalized_features_epoch: image.index(),
        finalized_features: features
            .iter()
            .map(|(name, level)| FinalizedFeatureKey {
                name: (*name).into(),
                max_version_level: *level,
                min_version_level: *level,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// KIP-511: letters, digits, dots and dashes, beginning and ending with a letter or digit.
fn is_software_text(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.chars().all(inner) && edge(text.chars().next()) && edge(text.chars().next_back())
}

fn ranges() -> Vec<ApiVersion> {
    let range = |key: &ApiKey| {
        let (min_version, max_version) = key.advertised_versions()?;
        Some(ApiVersion { api_key: key.code(), min_version, max_version, ..Default::default() })
    };
    ApiKey::ALL.iter().filter_map(range).collect()
}

/// Asked with a version that is not served: version 0, UNSUPPORTED_VERSION, and the own range alone, so that the client can
/// ask again (KIP-511).
pub fn too_new(call: &Call) -> Reply {
    let own = ranges().into_iter().filter(|range| range.api_key == ApiKey::ApiVersions.code()).collect();
    let code = ErrorCode::UnsupportedVersion;
    let response = ApiVersionsResponse { error_code: code.code(), api_keys: own, ..Default::default() };
    let mut writer = Writer::with_capacity(64);
    ResponseHeader { correlation_id: call.correlation_id(), ..Default::default() }.write(&mut writer, 0);
    response.write(&mut writer, 0);
    call.count_errors(&response);
    call.finish();
    Reply::Ready(ReplyFrame::new(writer.finish_bytes().expect("a version 0 reply has no splices")))
}
