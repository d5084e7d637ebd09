//! Which values a key takes, with Kafka's words when it does not.

use super::key::{Key, Status, Type};

/// Values that a key takes, beyond its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Any value of the type.
    Any,
    /// A number not below that.
    AtLeast(i64),
    /// A number within these bounds.
    Between(i64, i64),
    /// A number from 0 to 1.
    Fraction,
    /// -1, or 1 to 9.
    GzipLevel,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any of these words, each at most once.
    Lists(&'static [&'static str]),
    /// `*`, or pairs of partition and broker: `0:1,1:2`.
    ThrottledReplicas,
}

/// A value that a key does not take, or a key that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Key {
    /// Checks a value: type, range, words. The error is what a client is told with INVALID_CONFIG.
    pub fn validate(&self, value: &str) -> Result<(), ConfigError> {
        let value = value.trim();
        self.check_type(value)?;
        match self.check {
            Check::Any => Ok(()),
            Check::AtLeast(low) => self.at_least(value, low),
            Check::Between(low, high) => {
                self.at_least(value, low)?;
                self.require(value.parse::<i64>().is_ok_and(|n| n <= high), value, || {
                    format!("Value must be no more than {high}")
                })
            }
            Check::Fraction => {
                self.require(value.parse::<f64>().is_ok_and(|n| (0.0..=1.0).contains(&n)), value, || {
                    "Value must be at least 0 and no more than 1".to_owned()
                })
            }
            Check::GzipLevel => self.require(
                value.parse::<i64>().is_ok_and(|n| n == -1 || (1..=9).contains(&n)),
                value,
                || "Value must be between 1 and 9 or equal to -1".to_owned(),
            ),
            Check::OneOf(words) => self.require(words.contains(&value), value, || {
                format!("String must be one of: {}", words.join(", "))
            }),
            Check::Lists(words) => self.check_list(value, words),
            Check::ThrottledReplicas => self.require(is_throttled_replicas(value), value, || {
                "Must be the literal '*' or a list of pairs partition:broker".to_owned()
            }),
        }?;
        self.check_fixed(value)
    }

    fn check_fixed(&self, value: &str) -> Result<(), ConfigError> {
        match self.status {
            Status::Fixed(why) => self.require(Some(value) == self.default, value, || {
                format!("it is always {}: {why}", self.default.unwrap_or("unset"))
            }),
            Status::Honoured(_) | Status::NotUsed(_) => Ok(()),
        }
    }

    fn check_type(&self, value: &str) -> Result<(), ConfigError> {
        let not_a_number = || format!("Not a number of type {}", self.kind.name());
        match self.kind {
            Type::Boolean => self.require(parse_bool(value).is_some(), value, || {
                "Expected value to be either true or false".to_owned()
            }),
            Type::Int => self.require(value.parse::<i32>().is_ok(), value, not_a_number),
            Type::Short => self.require(value.parse::<i16>().is_ok(), value, not_a_number),
            Type::Long => self.require(value.parse::<i64>().is_ok(), value, not_a_number),
            Type::Double => self.require(value.parse::<f64>().is_ok_and(f64::is_finite), value, not_a_number),
            Type::Text | Type::List | Type::Class | Type::Password => Ok(()),
        }
    }

    fn check_list(&self, value: &str, words: &[&str]) -> Result<(), ConfigError> {
        let mut seen = Vec::new();
        for item in parse_list(value) {
            self.require(words.contains(&item), value, || {
                format!("String must be one of: {}", words.join(", "))
            })?;
            self.require(!seen.contains(&item), value, || format!("Duplicate value {item}"))?;
            seen.push(item);
        }
        Ok(())
    }

    fn at_least(&self, value: &str, low: i64) -> Result<(), ConfigError> {
        self.require(value.parse::<i64>().is_ok_and(|n| n >= low), value, || {
            format!("Value must be at least {low}")
        })
    }

    fn require(&self, holds: bool, value: &str, why: impl FnOnce() -> String) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        let shown = if self.sensitive { "[hidden]" } else { value };
        Err(ConfigError(format!("Invalid value {shown} for configuration {}: {}", self.name, why())))
    }
}

/// `true` or `false` in any case.
pub(super) fn parse_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The items of a list value, without blanks around them and without empty ones.
pub(super) fn parse_list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn is_throttled_replicas(value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    value == "*"
        || parse_list(value).all(|item| {
            item.split_once(':').is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
        })
}
