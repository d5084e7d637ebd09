//! `listeners`, `advertised.listeners` and `listener.security.protocol.map`.

/// How a listener protects its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// In the clear, everybody is anonymous.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL in the clear.
    SaslPlaintext,
    /// SASL in TLS.
    SaslSsl,
}

/// One of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Upper case, as Kafka keeps it.
    pub name: String,
    /// Empty: all interfaces. IPv6 without brackets.
    pub host: String,
    /// 0: any free port.
    pub port: u16,
    /// From the map.
    pub protocol: SecurityProtocol,
}

/// One of `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedListener {
    /// One of the listeners' names.
    pub name: String,
    /// Never empty and never 0.0.0.0.
    pub host: String,
    /// 0: the port that the listener of this name has bound.
    pub port: u16,
}
