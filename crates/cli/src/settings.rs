//! Where settings come from: the command line, a profile named there, the environment, a profile named there, the
//! file's default profile, and what counts without any of them; in this order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::arguments;
use crate::options::{Common, Output};
use crate::output::{Column, Out};

const BOOTSTRAP: &str = "127.0.0.1:9092";
const TIMEOUT: Duration = Duration::from_secs(15);

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    /// The profile in use when none is named.
    default_profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// Settings under a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Profile {
    bootstrap: Option<String>,
    output: Option<Output>,
    timeout: Option<String>,
}

/// The environment, as far as it counts.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    bootstrap: Option<String>,
    profile: Option<String>,
    config: Option<String>,
    config_home: Option<String>,
    home: Option<String>,
}

impl Environment {
    /// That of this process. What is empty counts as unset.
    pub fn of_process() -> Environment {
        let of = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Environment {
            bootstrap: of("OTTLA_BOOTSTRAP"),
            profile: of("OTTLA_PROFILE"),
            config: of("OTTLA_CONFIG"),
            config_home: of("XDG_CONFIG_HOME"),
            home: of("HOME"),
        }
    }

    /// The file, and whether it has to be there.
    fn file(&self) -> Option<(PathBuf, bool)> {
        if let Some(path) = &self.config {
            return Some((PathBuf::from(path), true));
        }
        let home = self.config_home.as_ref().map(PathBuf::from);
        let home = home.or_else(|| Some(Path::new(self.home.as_ref()?).join(".config")))?;
        Some((home.join("ottla/config.toml"), false))
    }
}

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses of brokers, separated by commas.
    pub bootstrap: String,
    /// How things are shown.
    pub output: Output,
    /// How long the cluster may take to answer.
    pub timeout: Duration,
}

impl Settings {
    /// Settles what counts.
    ///
    /// # Errors
    /// A file that cannot be read, a profile that is not there.
    pub fn settle(common: &Common, environment: &Environment) -> Result<Settings> {
        let (path, file) = read(environment)?;
        let named =
            common.profile.as_ref().or(environment.profile.as_ref()).or(file.default_profile.as_ref());
        let profile = match named {
            None => Profile::default(),
            Some(name) => file.profiles.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = file.profiles.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                anyhow!("there is no profile {name} in {}: there are {known}", shown(path.as_deref()))
            })?,
        };
        let chosen = profile.bootstrap.clone().filter(|_| common.profile.is_some());
        let bootstrap =
            common.bootstrap.clone().or(chosen).or(environment.bootstrap.clone()).or(profile.bootstrap);
        let timeout = match &profile.timeout {
            None => TIMEOUT,
            Some(text) => arguments::duration(text).map_err(|error| anyhow!("profile: timeout: {error}"))?,
        };
        Ok(Settings {
            bootstrap: bootstrap.unwrap_or_else(|| BOOTSTRAP.to_owned()),
            output: common.output.or(profile.output).unwrap_or_default(),
            timeout: common.timeout.unwrap_or(timeout),
        })
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the configuration file (HOME is not set)".to_owned(),
        |path| path.display().to_string(),
    )
}

fn read(environment: &Environment) -> Result<(Option<PathBuf>, File)> {
    let Some((path, is_needed)) = environment.file() else { return Ok((None, File::default())) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_needed => {
            return Ok((Some(path), File::default()));
        }
        Err(error) => bail!("{}: {error}: correct OTTLA_CONFIG, or the file's permissions", path.display()),
    };
    let file = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
    Ok((Some(path), file))
}

/// A profile as it is shown.
#[derive(Serialize)]
struct Row<'a> {
    profile: &'a str,
    is_default: bool,
    bootstrap: Option<&'a str>,
    timeout: Option<&'a str>,
}

/// Shows the profiles.
///
/// # Errors
/// A file that cannot be read.
pub fn show_profiles(environment: &Environment, out: &mut Out) -> Result<()> {
    let (path, file) = read(environment)?;
    let rows: Vec<Row> = file
        .profiles
        .iter()
        .map(|(name, profile)| Row {
            profile: name,
            is_default: file.default_profile.as_ref() == Some(name),
            bootstrap: profile.bootstrap.as_deref(),
            timeout: profile.timeout.as_deref(),
        })
        .collect();
    let columns = [
        Column::new("profile", "PROFILE"),
        Column::new("is_default", "DEFAULT"),
        Column::new("bootstrap", "BOOTSTRAP"),
        Column::new("timeout", "TIMEOUT"),
    ];
    let empty = format!(
        "no profiles in {}; write for example:\n\ndefault-profile = \"local\"\n\n[profiles.local]\nbootstrap = \"{BOOTSTRAP}\"",
        shown(path.as_deref())
    );
    Ok(out.rows(&columns, &rows, &empty)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    const FILE: &str = r#"
default-profile = "local"
[profiles.local]
bootstrap = "local:1"
timeout = "3s"
[profiles.far]
bootstrap = "far:1,far:2"
output = "json"
"#;

    fn settle(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("config.toml");
        std::fs::write(&path, FILE)?;
        let of =
            |name| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let environment = Environment {
            config: Some(path.display().to_string()),
            bootstrap: of("OTTLA_BOOTSTRAP"),
            profile: of("OTTLA_PROFILE"),
            ..Environment::default()
        };
        let arguments = ["ottla"].iter().chain(arguments).chain(&["health"]);
        Settings::settle(&crate::options::Options::try_parse_from(arguments)?.common, &environment)
    }

    #[test]
    fn what_is_said_nearest_counts() -> Result<()> {
        assert_eq!(settle(&[], &[])?.bootstrap, "local:1");
        assert_eq!(settle(&[], &[])?.timeout, Duration::from_secs(3));
        assert_eq!(settle(&[], &[("OTTLA_PROFILE", "far")])?.bootstrap, "far:1,far:2");
        assert_eq!(settle(&[], &[("OTTLA_BOOTSTRAP", "env:1")])?.bootstrap, "env:1");
        assert_eq!(settle(&["--profile", "far"], &[("OTTLA_BOOTSTRAP", "env:1")])?.bootstrap, "far:1,far:2");
        assert_eq!(settle(&["--profile", "far", "-b", "x:1"], &[])?.bootstrap, "x:1");
        assert_eq!(settle(&["--profile", "far"], &[])?.output, Output::Json);
        assert_eq!(settle(&["--profile", "far", "--output", "text"], &[])?.output, Output::Text);
        assert_eq!(settle(&["--timeout", "1s"], &[])?.timeout, Duration::from_secs(1));
        Ok(())
    }

    #[test]
    fn a_profile_that_is_not_there_names_those_that_are() {
        let error = settle(&["--profile", "near"], &[]).unwrap_err().to_string();
        assert!(error.contains("no profile near") && error.contains("far, local"), "{error}");
    }

    #[test]
    fn without_a_file_the_defaults_count() -> Result<()> {
        let options = crate::options::Options::try_parse_from(["ottla", "health"])?;
        let settings = Settings::settle(&options.common, &Environment::default())?;
        assert_eq!((settings.bootstrap.as_str(), settings.timeout), (BOOTSTRAP, TIMEOUT));
        Ok(())
    }
}
