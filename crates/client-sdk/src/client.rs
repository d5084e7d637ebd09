//! The client: where brokers are, connections to them, and what all producers, consumers and administrators share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_protocol::generated::ErrorCode;
use ottla_protocol::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use ottla_protocol::wire::{Message, Str};

use crate::admin::Admin;
use crate::connection::{Connection, ConnectionOptions, Security};
use crate::consumer::ConsumerOptions;
use crate::error::{Error, code_of};
use crate::metadata::{Cluster, Topic};
use crate::producer::ProducerOptions;
use crate::retry::Retries;

const METADATA_VERSIONS: (i16, i16) = (1, 12);

/// How a client connects; made by [`Client::options`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientOptions {
    bootstrap: Vec<String>,
    connection: ConnectionOptions,
    call_max: Duration,
    unknown_topic_max: Duration,
    metadata_age_max: Duration,
}

impl ClientOptions {
    /// What the client calls itself in each request; `ottla` by default.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.connection.client_id = id.into();
        self
    }

    /// How long one connection may take; 10 s by default.
    pub fn connect_max(mut self, limit: Duration) -> Self {
        self.connection.connect_max = limit;
        self
    }

    /// How long one request may take; 30 s by default.
    pub fn request_max(mut self, limit: Duration) -> Self {
        self.connection.request_max = limit;
        self
    }

    /// How long a call may take with all its retries; 60 s by default.
    pub fn call_max(mut self, limit: Duration) -> Self {
        self.call_max = limit;
        self
    }

    /// How long a topic that does not exist is waited for, because brokers learn of a new one at different times; 5 s by
    /// default.
    pub fn unknown_topic_max(mut self, limit: Duration) -> Self {
        self.unknown_topic_max = limit;
        self
    }

    /// What is known of a topic is asked for again after this time; 5 minutes by default.
    pub fn metadata_age_max(mut self, limit: Duration) -> Self {
        self.metadata_age_max = limit;
        self
    }

    /// How connections are protected; plaintext by default.
    pub fn security(mut self, security: Security) -> Self {
        self.connection.security = security;
        self
    }

    /// Connects to the first address that answers.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] when none does within the limit of a call; [`Error::Options`] for an empty list.
    pub async fn connect(self) -> Result<Client, Error> {
        if self.bootstrap.is_empty() {
            return Err(Error::Options("the bootstrap list is empty: give host:port".to_owned()));
        }
        let shared = Shared {
            options: self,
            cluster: Mutex::new(Arc::new(Cluster::default())),
            refreshing: tokio::sync::Mutex::new(()),
            connections: Mutex::new(HashMap::new()),
        };
        let client = Client { shared: Arc::new(shared) };
        client.refresh(&[], false, 0, client.shared.options.call_max).await?;
        Ok(client)
    }
}

/// A cluster's client. Cloning it is cheap, and clones share connections and what is known of the cluster.
///
/// ```no_run
/// # async fn example() -> Result<(), ottla_client_sdk::Error> {
/// use ottla_client_sdk::{Client, Record};
///
/// let client = Client::connect("127.0.0.1:9092").await?;
/// let producer = client.producer().start().await?;
/// let receipt = producer.send(Record::to("greetings").key("en").value("hello")).await?.await?;
/// println!("{}-{} at {:?}", receipt.topic, receipt.partition, receipt.offset);
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

struct Shared {
    options: ClientOptions,
    /// What is known; swapped whole.
    cluster: Mutex<Arc<Cluster>>,
    /// Held by the one who asks for metadata, so that many who miss it ask once.
    refreshing: tokio::sync::Mutex<()>,
    /// By address, for requests that are answered at once. Held only to find the slot.
    connections: Mutex<HashMap<String, Slot>>,
}

impl Client {
    /// Options for a list of addresses `host:port`, separated by commas.
    pub fn options(bootstrap: &str) -> ClientOptions {
        let bootstrap =
            bootstrap.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        ClientOptions {
            bootstrap,
            connection: ConnectionOptions {
                client_id: "ottla".to_owned(),
                connect_max: Duration::from_secs(10),
                request_max: Duration::from_secs(30),
                security: Security::Plaintext,
            },
            call_max: Duration::from_secs(60),
            unknown_topic_max: Duration::from_secs(5),
            metadata_age_max: Duration::from_secs(300),
        }
    }

    /// Connects with defaults.
    ///
    /// # Errors
    /// As [`ClientOptions::connect`].
    pub async fn connect(bootstrap: &str) -> Result<Client, Error> {
        Client::options(bootstrap).connect().await
    }

    /// Options of a producer.
    pub fn producer(&self) -> ProducerOptions {
        ProducerOptions::new(self.clone())
    }

    /// Options of a consumer.
    pub fn consumer(&self) -> ConsumerOptions {
        ConsumerOptions::new(self.clone())
    }

    /// What an administrator can do.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// A topic as the cluster knows it; asked for if it is not known here yet.
    ///
    /// # Errors
    /// [`Error::Topic`] when there is none; whatever keeps brokers from answering.
    pub async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        self.find_topic(name, false).await
    }

    pub(crate) async fn find_topic(&self, name: &str, create: bool) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.cluster().topic(name, self.shared.options.metadata_age_max) {
            return Ok(topic);
        }
        let limit = self.shared.options.unknown_topic_max;
        let mut retries = Retries::new(format!("looking up topic {name}"), limit);
        loop {
            let seen = self.cluster().generation;
            let name = Str::from(name);
            self.refresh(std::slice::from_ref(&name), create, seen, self.call_max()).await?;
            if let Some(topic) = self.cluster().topic(&name, Duration::MAX) {
                return Ok(topic);
            }
            let error = Error::topic(&name, ErrorCode::UnknownTopicOrPartition);
            match retries.pause(error.clone()).await {
                Ok(()) => {}
                Err(Error::TimedOut { .. }) => return Err(error),
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn call_max(&self) -> Duration {
        self.shared.options.call_max
    }

    pub(crate) fn request_max(&self) -> Duration {
        self.shared.options.connection.request_max
    }

    pub(crate) fn metadata_age_max(&self) -> Duration {
        self.shared.options.metadata_age_max
    }

    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.shared.cluster.lock().expect("no panic under this lock").clone()
    }

    /// Asks for the named topics, unless somebody has since the generation `seen`.
    ///
    /// # Errors
    /// When no broker answers within `limit`, or an error of a topic that no retry cures.
    pub(crate) async fn refresh(
        &self,
        names: &[Str],
        create: bool,
        seen: u64,
        limit: Duration,
    ) -> Result<(), Error> {
        let _asking = self.shared.refreshing.lock().await;
        let cluster = self.cluster();
        let answered = names.iter().all(|name| cluster.topics.contains_key(name));
        if cluster.generation > seen && answered {
            return Ok(());
        }
        let topics = names
            .iter()
            .map(|name| MetadataRequestTopic { name: Some(name.clone()), ..MetadataRequestTopic::default() });
        let request = MetadataRequest {
            topics: Some(topics.collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let response = self.ask_metadata(request, limit).await?;
        self.learn(&response);
        for topic in &response.topics {
            let code = code_of(topic.error_code);
            if code != ErrorCode::None && !code.is_retriable() {
                return Err(Error::topic(topic.name.as_deref().unwrap_or_default(), code));
            }
        }
        Ok(())
    }

    pub(crate) fn learn(&self, response: &MetadataResponse) {
        let mut cluster = self.shared.cluster.lock().expect("no panic under this lock");
        *cluster = Arc::new(cluster.after(response));
    }

    pub(crate) async fn ask_metadata(
        &self,
        mut request: MetadataRequest,
        limit: Duration,
    ) -> Result<MetadataResponse, Error> {
        let mut retries = Retries::new("asking for metadata", limit);
        loop {
            match self.any_connection().await {
                Ok(connection) => {
                    let version = connection.version::<MetadataRequest>(METADATA_VERSIONS)?;
                    // Before version 4 there is no choice: whoever asks may create.
                    request.allow_auto_topic_creation |= version < 4;
                    match connection.call(&request, version).await {
                        Ok(response) => return Ok(response),
                        Err(error) => {
                            self.forget(&connection).await;
                            retries.pause(error).await?;
                        }
                    }
                }
                Err(error) => retries.pause(error).await?,
            }
        }
    }

    /// A connection to some broker: one that is known, or else one of the bootstrap list.
    ///
    /// # Errors
    /// `Bootstrap` when none can be reached.
    pub(crate) async fn any_connection(&self) -> Result<Arc<Connection>, Error> {
        let cluster = self.cluster();
        let known = cluster.brokers.values().map(crate::metadata::Broker::address);
        let addresses: Vec<String> = known.chain(self.shared.options.bootstrap.iter().cloned()).collect();
        let mut last = None;
        for address in &addresses {
            match self.connection_to(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        let last = Box::new(last.unwrap_or(Error::Closed("client")));
        Err(Error::Bootstrap { addresses: addresses.join(", "), last })
    }

    /// The shared connection to an address.
    async fn connection_to(&self, address: &str) -> Result<Arc<Connection>, Error> {
        let slot = {
            let mut connections = self.shared.connections.lock().expect("no panic under this lock");
            connections.entry(address.to_owned()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(address, &self.shared.options.connection).await?);
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// The shared connection to a broker.
    pub(crate) async fn connection(&self, broker: i32) -> Result<Arc<Connection>, Error> {
        let address = self.address_of(broker)?;
        self.connection_to(&address).await
    }

    /// A connection for one user alone, whose requests may wait in the broker.
    pub(crate) async fn own_connection(&self, broker: i32) -> Result<Connection, Error> {
        let address = self.address_of(broker)?;
        Connection::open(&address, &self.shared.options.connection).await
    }

    fn address_of(&self, broker: i32) -> Result<String, Error> {
        let cluster = self.cluster();
        let known = cluster.brokers.get(&broker).map(crate::metadata::Broker::address);
        known.ok_or_else(|| Error::Refused {
            what: format!("broker {broker}"),
            code: ErrorCode::LeaderNotAvailable,
            message: None,
        })
    }

    /// Takes a shared connection that failed out of use.
    pub(crate) async fn forget(&self, failed: &Arc<Connection>) {
        let slot = {
            let connections = self.shared.connections.lock().expect("no panic under this lock");
            connections.get(failed.address().as_ref()).cloned()
        };
        if let Some(slot) = slot {
            let mut slot = slot.lock().await;
            if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
                *slot = None;
            }
        }
    }

    /// One request to one broker over the shared connection.
    pub(crate) async fn call_broker<Q: Message, R: Message>(
        &self,
        broker: i32,
        request: &Q,
        versions: (i16, i16),
    ) -> Result<(R, i16), Error> {
        let connection = self.connection(broker).await?;
        self.call_over(&connection, request, versions).await
    }

    /// One request over a shared connection, which is given up when it fails.
    pub(crate) async fn call_over<Q: Message, R: Message>(
        &self,
        connection: &Arc<Connection>,
        request: &Q,
        versions: (i16, i16),
    ) -> Result<(R, i16), Error> {
        let version = connection.version::<Q>(versions)?;
        match connection.call(request, version).await {
            Ok(response) => Ok((response, version)),
            Err(error) => {
                if error.is_connection() {
                    self.forget(connection).await;
                }
                Err(error)
            }
        }
    }
}
