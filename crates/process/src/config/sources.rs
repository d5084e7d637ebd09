//! Where a setting comes from, and how the sources are merged: file < environment < `--override`, and within each the last one wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ConfigError;
use super::{env, properties};

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of the file, counted from 1.
    File {
        /// The file as it was named.
        path: Arc<Path>,
        /// Where the setting begins.
        line: usize,
    },
    /// An environment variable, by its name.
    Environment(String),
    /// `--override`.
    Override,
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Source::Environment(name) => write!(f, "environment variable {name}"),
            Source::Override => f.write_str("--override"),
            Source::Default => f.write_str("default"),
        }
    }
}

/// One value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Trimmed, as Kafka does.
    pub value: String,
    /// Where it was given.
    pub source: Source,
}

/// All settings that were given, by key. Defaults are not in it.
#[derive(Clone, Debug, Default)]
pub struct StaticSettings {
    by_key: BTreeMap<String, Setting>,
}

impl StaticSettings {
    /// Merges the three sources.
    ///
    /// # Errors
    /// An unreadable file, a file with a syntax error, an override that is not `key=value`.
    pub fn gather(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        overrides: &[String],
    ) -> Result<StaticSettings, ConfigError> {
        let mut settings = StaticSettings::default();
        if let Some(path) = file {
            settings.add_file(path)?;
        }
        let mut variables: Vec<_> = environment.into_iter().filter_map(env::setting).collect();
        variables.sort(); // two names for one key: the same one wins on every start
        for (name, key, value) in variables {
            settings.set(&key, &value, Source::Environment(name));
        }
        for text in overrides {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.trim().is_empty())
                .ok_or_else(|| ConfigError::Override { text: text.clone() })?;
            settings.set(key, value, Source::Override);
        }
        Ok(settings)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let bytes = std::fs::read(path)
            .map_err(|error| ConfigError::Unreadable { path: PathBuf::from(path), error })?;
        let text = properties::decode(&bytes);
        let shared: Arc<Path> = Arc::from(path);
        let entries = properties::parse(&text).map_err(|error| ConfigError::Syntax {
            path: PathBuf::from(path),
            line: error.line,
            reason: error.reason,
        })?;
        for entry in entries {
            self.set(&entry.key, &entry.value, Source::File { path: shared.clone(), line: entry.line });
        }
        Ok(())
    }

    /// Sets a key, replacing what was there.
    pub fn set(&mut self, key: &str, value: &str, source: Source) {
        self.by_key.insert(key.trim().to_owned(), Setting { value: value.trim().to_owned(), source });
    }

    /// The setting of exactly this key (synonyms are the caller's matter).
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key)
    }

    /// All settings in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.by_key.iter().map(|(key, setting)| (key.as_str(), setting))
    }
}
