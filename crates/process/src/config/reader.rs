//! Reads settings with the registry's types and defaults. All settings are validated first, so that reading cannot fail.

use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;

use ottla_cluster::config::{ConfigMap, Key, Type, broker_key};

use super::error::{BadValue, ConfigError};
use super::sources::{Source, StaticSettings};

/// Validated settings.
pub struct Reader<'a> {
    settings: &'a StaticSettings,
}

impl<'a> Reader<'a> {
    /// Validates each known key by itself.
    ///
    /// # Errors
    /// The first value that its key does not take.
    pub fn new(settings: &'a StaticSettings) -> Result<Reader<'a>, ConfigError> {
        let reader = Reader { settings };
        for (name, setting) in settings.iter() {
            let Some(key) = broker_key(name) else { continue };
            if let Err(error) = key.validate(&setting.value) {
                let shown = if key.sensitive { "[hidden]" } else { &setting.value };
                let prefix = format!("Invalid value {shown} for configuration {name}: ");
                let reason = error.0.strip_prefix(&prefix).unwrap_or(&error.0);
                return Err(reader.bad(name, in_our_words(key, reason), advice(key)));
            }
        }
        Ok(reader)
    }

    /// What was set, with sources.
    pub fn settings(&self) -> &'a StaticSettings {
        self.settings
    }

    /// What was set, without sources.
    pub fn fixed(&self) -> ConfigMap {
        self.settings.iter().map(|(key, setting)| (key.to_owned(), setting.value.clone())).collect()
    }

    /// Whether the key was given a value.
    pub fn is_set(&self, name: &str) -> bool {
        self.settings.get(name).is_some()
    }

    /// The value or the default; none when there is neither.
    pub fn text(&self, name: &str) -> Option<String> {
        let key = broker_key(name).expect("the broker asks for keys of the registry");
        self.settings.get(name).map(|setting| setting.value.as_str()).or(key.default).map(str::to_owned)
    }

    /// A key with a numeric type and a default, or a check that its value fits `T`.
    pub fn number<T: FromStr<Err: Debug>>(&self, name: &str) -> T {
        let text = self.text(name).expect("the key has a default");
        text.parse().expect("the key's check makes sure that the value fits")
    }

    /// A number of which a negative one stands for no limit.
    pub fn limit(&self, name: &str) -> Option<u64> {
        u64::try_from(self.number::<i64>(name)).ok()
    }

    /// A number of milliseconds that the registry checks not to be negative.
    pub fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.limit(name).unwrap_or(0))
    }

    /// A boolean key.
    pub fn boolean(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// The items of a list key, without empty ones.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// An error about the value of a key, set or default.
    pub fn bad(&self, name: &str, reason: impl Into<String>, advice: impl Into<String>) -> ConfigError {
        let key = broker_key(name);
        let sensitive = key.is_some_and(|key| key.sensitive);
        let (value, origin) = match self.settings.get(name) {
            Some(setting) => (setting.value.clone(), setting.source.clone()),
            None => (key.and_then(|key| key.default).unwrap_or_default().to_owned(), Source::Default),
        };
        ConfigError::BadValue(Box::new(BadValue {
            key: name.to_owned(),
            value: if sensitive { "[hidden]".to_owned() } else { value },
            origin,
            reason: reason.into(),
            advice: advice.into(),
        }))
    }
}

/// The registry speaks to clients in Kafka's words; an operator gets plainer ones where the type is wrong.
fn in_our_words(key: &Key, reason: &str) -> String {
    if !reason.starts_with("Not a number") {
        let mut chars = reason.chars();
        return chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect());
    }
    match key.kind {
        Type::Int => "not a whole number of 32 bits".to_owned(),
        Type::Short => "not a whole number of 16 bits".to_owned(),
        Type::Long => "not a whole number of 64 bits".to_owned(),
        _ => "not a number".to_owned(),
    }
}

fn advice(key: &Key) -> String {
    match key.default {
        Some(default) if !default.is_empty() => {
            format!("correct it, or leave {} out to have the default {default}", key.name)
        }
        _ => format!("correct it, or leave {} out", key.name),
    }
}
