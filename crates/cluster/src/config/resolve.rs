//! Which value a key has, and why: what is set on the topic goes before what is set at run time on the broker, then for all
//! brokers, then in the broker's file, then the default (KIP-226).

use std::collections::BTreeMap;

use super::key::{Key, Scope, Source};
use super::{broker_key, broker_keys, group_key, group_keys, topic_key, topic_keys};

/// Values that are set somewhere, by key.
pub type ConfigMap = BTreeMap<String, String>;

/// The places where a value may be set. An absent one is an empty map.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// Set on the topic or group in question.
    pub resource: &'a ConfigMap,
    /// Set at run time on this broker.
    pub broker: &'a ConfigMap,
    /// Set at run time for all brokers.
    pub cluster: &'a ConfigMap,
    /// Set in the broker's file, on its command line or in its environment.
    pub fixed: &'a ConfigMap,
}

/// An empty layer.
pub static NOTHING: ConfigMap = BTreeMap::new();

/// One answer of DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the key.
    pub name: String,
    /// Its value; `None` when unset or sensitive.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// Whether a client cannot change it.
    pub read_only: bool,
    /// Whether its value is hidden.
    pub sensitive: bool,
    /// Type of the key as on the wire; 0 for a key that nobody knows.
    pub kind: i8,
    /// One sentence for people.
    pub documentation: Option<String>,
    /// All values that could apply, the one in force first.
    pub synonyms: Vec<EntrySynonym>,
}

/// A value that could apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySynonym {
    /// Name of the key, of the broker or of the topic.
    pub name: String,
    /// Its value in the unit of that key; `None` when sensitive.
    pub value: Option<String>,
    /// Where it is set.
    pub source: Source,
}

impl Default for Layers<'_> {
    fn default() -> Self {
        Self { resource: &NOTHING, broker: &NOTHING, cluster: &NOTHING, fixed: &NOTHING }
    }
}

impl<'a> Layers<'a> {
    /// The value in force of any key, in that key's unit. `None` when it is unset and has no default.
    #[must_use]
    pub fn value(&self, key: &Key) -> Option<String> {
        if let Some(value) = self.own(key) {
            return Some(value.clone());
        }
        let set = key.synonyms.iter().find_map(|synonym| {
            let (value, _) = self.broker_values(synonym.name).next()?;
            Some(in_unit(value, synonym.unit))
        });
        set.or_else(|| key.default.map(str::to_owned))
    }

    /// The value in force of a broker key. `None` when the key is unknown, or unset without a default.
    #[must_use]
    pub fn broker_value(&self, name: &str) -> Option<String> {
        let set = self.broker_values(name).next().map(|(value, _)| value.to_owned());
        set.or_else(|| broker_key(name)?.default.map(str::to_owned))
    }

    /// What DescribeConfigs answers about a topic: all keys, or those of `names` that exist.
    #[must_use]
    pub fn describe_topic(&self, names: Option<&[String]>) -> Vec<Entry> {
        match names {
            None => topic_keys().map(|key| self.entry(key)).collect(),
            Some(names) => {
                names.iter().filter_map(|name| topic_key(name)).map(|key| self.entry(key)).collect()
            }
        }
    }

    /// What DescribeConfigs answers about a group.
    #[must_use]
    pub fn describe_group(&self, names: Option<&[String]>) -> Vec<Entry> {
        match names {
            None => group_keys().map(|key| self.entry(key)).collect(),
            Some(names) => {
                names.iter().filter_map(|name| group_key(name)).map(|key| self.entry(key)).collect()
            }
        }
    }

    /// What DescribeConfigs answers about one broker: all keys, or those of `names` that exist.
    #[must_use]
    pub fn describe_broker(&self, names: Option<&[String]>) -> Vec<Entry> {
        match names {
            None => broker_keys().into_iter().map(|key| self.entry(key)).collect(),
            Some(names) => {
                names.iter().filter_map(|name| broker_key(name)).map(|key| self.entry(key)).collect()
            }
        }
    }

    /// What DescribeConfigs answers about the brokers' common defaults (the broker resource without a name): what is set there.
    #[must_use]
    pub fn describe_cluster(&self, names: Option<&[String]>) -> Vec<Entry> {
        let only_cluster = Layers { cluster: self.cluster, ..Layers::default() };
        let wanted = |name: &str| names.is_none_or(|names| names.iter().any(|wanted| wanted == name));
        let set = self.cluster.keys().filter(|name| wanted(name));
        set.filter_map(|name| broker_key(name)).map(|key| only_cluster.entry(key)).collect()
    }

    /// One key with all that could apply.
    #[must_use]
    pub fn entry(&self, key: &Key) -> Entry {
        let shown = |value: &str| (!key.sensitive).then(|| value.to_owned());
        let mut synonyms = Vec::new();
        let mut in_force: Option<(String, Source)> = None;
        match key.scope {
            Scope::Topic | Scope::Group => {
                let source = if key.scope == Scope::Topic { Source::Topic } else { Source::Group };
                if let Some(value) = self.resource.get(key.name) {
                    in_force = Some((value.clone(), source));
                    synonyms.push(EntrySynonym { name: key.name.to_owned(), value: shown(value), source });
                }
            }
            Scope::ReadOnly | Scope::PerBroker | Scope::ClusterWide => {
                for (value, source) in self.broker_values(key.name) {
                    in_force.get_or_insert((value.to_owned(), source));
                    synonyms.push(EntrySynonym { name: key.name.to_owned(), value: shown(value), source });
                }
            }
        }
        for synonym in key.synonyms {
            for (value, source) in self.broker_values(synonym.name) {
                in_force.get_or_insert_with(|| (in_unit(value, synonym.unit), source));
                synonyms.push(EntrySynonym { name: synonym.name.to_owned(), value: shown(value), source });
            }
        }
        for (name, default) in defaults(key) {
            synonyms.push(EntrySynonym { name, value: shown(default), source: Source::Default });
        }
        let (value, source) = match in_force {
            Some((value, source)) => (Some(value), source),
            None => (key.default.map(str::to_owned), Source::Default),
        };
        Entry {
            name: key.name.to_owned(),
            value: value.filter(|_| !key.sensitive),
            source,
            read_only: key.is_read_only(),
            sensitive: key.sensitive,
            kind: key.kind.code(),
            documentation: Some(super::docs::sentence(key)),
            synonyms,
        }
    }

    fn own(&self, key: &Key) -> Option<&'a String> {
        match key.scope {
            Scope::Topic | Scope::Group => self.resource.get(key.name),
            Scope::ReadOnly => self.fixed.get(key.name),
            Scope::PerBroker | Scope::ClusterWide => {
                let layers = [self.broker, self.cluster, self.fixed];
                layers.into_iter().find_map(|layer| layer.get(key.name))
            }
        }
    }

    /// The values of a broker key that are set, the strongest first.
    fn broker_values(&self, name: &str) -> impl Iterator<Item = (&'a str, Source)> {
        let layers = [
            (self.broker, Source::DynamicBroker),
            (self.cluster, Source::DynamicDefaultBroker),
            (self.fixed, Source::StaticBroker),
        ];
        let found = layers.map(|(layer, source)| layer.get(name).map(|value| (value.as_str(), source)));
        found.into_iter().flatten()
    }
}

/// The defaults that could apply: those of the broker keys that stand in, or else the key's own.
fn defaults(key: &Key) -> Vec<(String, &'static str)> {
    let broker = key.synonyms.iter().filter_map(|synonym| {
        let default = broker_key(synonym.name)?.default?;
        Some((synonym.name.to_owned(), default))
    });
    let broker: Vec<_> = broker.collect();
    if broker.is_empty() {
        return key.default.map(|default| (key.name.to_owned(), default)).into_iter().collect();
    }
    broker
}

/// A broker key's value in the unit of the topic key. A negative one (no limit) stays what it is.
fn in_unit(value: &str, unit: i64) -> String {
    match value.trim().parse::<i64>() {
        Ok(count) if unit != 1 && count >= 0 => count.saturating_mul(unit).to_string(),
        Ok(_) | Err(_) => value.to_owned(),
    }
}
