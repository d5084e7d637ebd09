//! One connection to a broker, with the versions that both sides speak.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::generated::{ApiKey, ErrorCode, ResponseHeader};
use ottla_protocol::wire::{Message, Reader, Str, Writer};
use ottla_transport::client::{Client as Transport, ClientError, ClientOptions, PendingResponse};

use crate::error::{Error, check};

/// The transport's own limit is out of the way: each call has its own, and a join waits for minutes.
const TRANSPORT_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// The first ApiVersions version with a name and a version of the client (KIP-511).
const API_VERSIONS_NAMED: i16 = 3;

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionOptions {
    pub client_id: String,
    pub connect_max: Duration,
    pub request_max: Duration,
    pub security: Security,
}

/// How connections are protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Security {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
}

/// One connection; requests leave in the order of the calls, and answers come back in that order too: a request that
/// waits in the broker holds up those behind it.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    address: Arc<str>,
    versions: HashMap<i16, (i16, i16)>,
    request_max: Duration,
}

impl Connection {
    /// Connects and asks for the versions.
    pub async fn open(address: &str, options: &ConnectionOptions) -> Result<Connection, Error> {
        match options.security {
            Security::Plaintext => {}
        }
        let broker: Arc<str> = address.into();
        let transport_options = ClientOptions {
            client_id: Some(options.client_id.clone()),
            connect_max: options.connect_max,
            request_max: TRANSPORT_WAIT_MAX,
            ..ClientOptions::default()
        };
        let transport = Transport::connect_with(address.to_owned(), transport_options)
            .await
            .map_err(|source| Error::Connection { broker: broker.clone(), source })?;
        let mut connection = Connection {
            transport,
            address: broker,
            versions: HashMap::new(),
            request_max: options.request_max,
        };
        let response = connection.ask_versions(API_VERSIONS_NAMED).await?;
        let response = match response {
            Some(response) => response,
            None => connection.ask_versions(0).await?.unwrap_or_default(),
        };
        check(response.error_code, |code| Error::Refused {
            what: format!("broker {address}: ApiVersions"),
            code,
            message: None,
        })?;
        connection.versions =
            response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(connection)
    }

    /// `None` when the broker does not know this version of ApiVersions: such an answer is in version 0 whatever was
    /// asked for.
    async fn ask_versions(&self, version: i16) -> Result<Option<ApiVersionsResponse>, Error> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("ottla-client-sdk"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequest::default()
        };
        let pending = self.start(&request, version).await?;
        let frame = self.within(self.request_max, pending).await?;
        let refused = frame.get(4..6) == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
        if refused && version > 0 {
            return Ok(None);
        }
        self.decode(frame, ApiKey::ApiVersions, version).map(Some)
    }

    /// Host and port.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The highest version of `Q` that both sides speak, of those from `needed.0` to `needed.1`.
    pub fn version<Q: Message>(&self, needed: (i16, i16)) -> Result<i16, Error> {
        let served = Q::KEY.and_then(|key| self.versions.get(&key)).copied();
        served
            .map(|(min, max)| (min.max(needed.0), max.min(needed.1)))
            .filter(|(min, max)| min <= max)
            .map_or_else(
                || Err(Error::Unsupported { broker: self.address.clone(), api: Q::NAME, needed, served }),
                |(_, max)| Ok(max),
            )
    }

    /// Sends a request and waits for its answer, for the connection's usual time.
    pub async fn call<Q: Message, R: Message>(&self, request: &Q, version: i16) -> Result<R, Error> {
        self.call_within(request, version, self.request_max).await
    }

    /// As `call`, for a time of its own.
    pub async fn call_within<Q: Message, R: Message>(
        &self,
        request: &Q,
        version: i16,
        limit: Duration,
    ) -> Result<R, Error> {
        let pending = self.start(request, version).await?;
        let frame = self.within(limit, pending).await?;
        self.decode(frame, api_key::<Q>(), version)
    }

    /// Sends a request; its answer comes by `finish`.
    pub async fn start<Q: Message>(&self, request: &Q, version: i16) -> Result<PendingResponse, Error> {
        self.start_sized(request, version, 256).await
    }

    /// As `start`, for a request of about `bytes`.
    pub async fn start_sized<Q: Message>(
        &self,
        request: &Q,
        version: i16,
        bytes: usize,
    ) -> Result<PendingResponse, Error> {
        let body = self.encode(request, version, bytes)?;
        self.transport.send(api_key::<Q>(), version, &body).await.map_err(|source| self.failed(source))
    }

    /// Sends a request that has no answer.
    pub async fn send_one_way<Q: Message>(&self, request: &Q, version: i16) -> Result<(), Error> {
        let body = self.encode(request, version, 256)?;
        self.transport
            .send_one_way(api_key::<Q>(), version, &body)
            .await
            .map_err(|source| self.failed(source))
    }

    fn encode<Q: Message>(&self, request: &Q, version: i16, bytes: usize) -> Result<Bytes, Error> {
        let mut writer = Writer::with_capacity(bytes);
        request.write(&mut writer, version);
        writer
            .finish_bytes()
            .map_err(|source| self.failed(ClientError::Encode { message: Q::NAME, version, source }))
    }

    /// Waits for an answer.
    pub async fn within(&self, limit: Duration, pending: PendingResponse) -> Result<Bytes, Error> {
        match tokio::time::timeout(limit, pending).await {
            Ok(frame) => frame.map_err(|source| self.failed(source)),
            Err(_elapsed) => Err(self.failed(ClientError::Timeout(limit))),
        }
    }

    /// Reads an answer.
    pub fn decode<R: Message>(&self, frame: Bytes, api_key: ApiKey, version: i16) -> Result<R, Error> {
        let mut reader = Reader::new(frame);
        let _header = ResponseHeader::read(&mut reader, api_key.response_header_version(version));
        let message = R::read(&mut reader, version);
        // Bytes behind the message are ignored, as Java's client does: librdkafka's mock cluster sends some.
        reader
            .check()
            .map_err(|source| self.failed(ClientError::Decode { message: R::NAME, version, source }))?;
        Ok(message)
    }

    fn failed(&self, source: ClientError) -> Error {
        Error::Connection { broker: self.address.clone(), source }
    }
}

fn api_key<Q: Message>() -> ApiKey {
    Q::KEY.and_then(ApiKey::from_i16).expect("only requests are sent")
}
