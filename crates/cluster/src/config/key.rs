//! One row of the registry.

use super::value::Check;

/// Type of a key's value, as DescribeConfigs names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    Text,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A decimal number.
    Double,
    /// Texts between commas.
    List,
    /// Name of a Java class.
    Class,
    /// A secret.
    Password,
}

impl Type {
    /// `ConfigType` of DescribeConfigs (KIP-569).
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// Kafka's name of the type, in capitals, as its error messages say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::Text => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// Where a key may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On a topic.
    Topic,
    /// On a group.
    Group,
    /// At the start of a broker only.
    ReadOnly,
    /// Also at run time, for one broker.
    PerBroker,
    /// Also at run time, for one broker or for all.
    ClusterWide,
}

/// What Ottla makes of a key; the text is one sentence for the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what the text says.
    Honoured(&'static str),
    /// It always has its default, and another value is refused, for that reason.
    Fixed(&'static str),
    /// It is known and has no effect, for that reason.
    NotUsed(&'static str),
}

/// A broker key whose value stands in for a topic or group key that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// Name of the broker key.
    pub name: &'static str,
    /// Multiplies the broker key's value: 3,600,000 when it counts hours and the topic key counts milliseconds.
    pub unit: i64,
}

/// Where a value comes from: `ConfigSource` of DescribeConfigs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Set on the topic.
    Topic,
    /// Set at run time on one broker.
    DynamicBroker,
    /// Set at run time for all brokers.
    DynamicDefaultBroker,
    /// Set in the file, on the command line or in the environment of the broker.
    StaticBroker,
    /// Set nowhere.
    Default,
    /// Set on the group.
    Group,
}

impl Source {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::Group => 8,
        }
    }
}

/// One configuration key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Kafka's name, or Ottla's own that begins with `ottla.`.
    pub name: &'static str,
    /// Type of its value.
    pub kind: Type,
    /// Default; `None` when unset means something of its own.
    pub default: Option<&'static str>,
    /// Kafka's default where Ottla's differs.
    pub kafka_default: Option<Option<&'static str>>,
    /// Where it may be set.
    pub scope: Scope,
    /// Which values are allowed.
    pub check: Check,
    /// What Ottla makes of it.
    pub status: Status,
    /// Whether its value is never shown.
    pub sensitive: bool,
    /// For a topic or group key: the broker keys that give its default, the first one that is set wins.
    pub synonyms: &'static [Synonym],
}

impl Key {
    /// A row of a table.
    pub(super) const fn new(
        name: &'static str,
        kind: Type,
        default: Option<&'static str>,
        scope: Scope,
        check: Check,
        status: Status,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            kafka_default: None,
            scope,
            check,
            status,
            sensitive: false,
            synonyms: &[],
        }
    }

    /// The same with broker keys that give its default.
    pub(super) const fn synonyms(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    /// The same with a default that is not Kafka's, which is `default`.
    pub(super) const fn differs_from_kafka(mut self, default: Option<&'static str>) -> Self {
        self.kafka_default = Some(default);
        self
    }

    /// The same with a value that is never shown.
    pub(super) const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Whether a change of it has an effect.
    #[must_use]
    pub const fn is_honoured(&self) -> bool {
        matches!(self.status, Status::Honoured(_))
    }

    /// Whether it can be changed while brokers run, as DescribeConfigs shows it: only what is honoured can.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        !self.is_honoured() || self.scope == Scope::ReadOnly
    }
}
