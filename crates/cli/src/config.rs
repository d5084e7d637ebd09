//! `ottla config`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use ottla_client_sdk::{ConfigChange, ConfigEntry, Resource};
use serde::Serialize;
use serde_json::json;

use crate::arguments;
use crate::failure::NotFound;
use crate::output::Column;
use crate::session::Session;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Shows the settings of a topic or a broker: those that somebody has set, or all
    Describe {
        /// Whose.
        #[command(flatten)]
        of: Of,
        /// Only these keys
        keys: Vec<String>,
        /// Those that have their defaults too
        #[arg(long)]
        all: bool,
    },
    /// Sets keys of a topic or a broker
    #[command(after_help = "Examples:
  ottla config set topic orders retention.ms=86400000
  ottla config set broker 1 log.cleaner.io.max.bytes.per.second=50000000")]
    Set {
        /// Whose.
        #[command(flatten)]
        of: Of,
        /// The settings
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = arguments::setting)]
        settings: Vec<(String, String)>,
    },
    /// Gives keys of a topic or a broker their defaults again
    Unset {
        /// Whose.
        #[command(flatten)]
        of: Of,
        /// The keys
        #[arg(required = true)]
        keys: Vec<String>,
    },
}

/// Whose settings.
#[derive(Debug, Args)]
pub struct Of {
    /// Of what
    kind: Kind,
    /// The topic's name, or the broker's id
    name: String,
}

/// What has settings.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// A topic.
    Topic,
    /// A broker.
    Broker,
}

impl Of {
    async fn resource(&self, session: &Session) -> Result<Resource> {
        match self.kind {
            Kind::Topic => Ok(Resource::Topic(self.name.clone())),
            Kind::Broker => {
                let absent =
                    || NotFound(format!("there is no broker {}: `ottla cluster` shows them", self.name));
                let id: i32 = self.name.parse().map_err(|_error| absent())?;
                let cluster = session.admin().describe_cluster().await?;
                match cluster.brokers.iter().any(|broker| broker.id == id) {
                    true => Ok(Resource::Broker(id)),
                    false => Err(absent().into()),
                }
            }
        }
    }
}

/// A setting.
#[derive(Serialize)]
struct Row<'a> {
    resource: String,
    key: &'a str,
    value: Option<&'a str>,
    is_default: bool,
    is_set_here: bool,
    is_read_only: bool,
    is_sensitive: bool,
}

/// Runs the command.
///
/// # Errors
/// What the cluster refuses.
pub async fn run(command: ConfigCommand, session: &mut Session) -> Result<ExitCode> {
    match command {
        ConfigCommand::Describe { of, keys, all } => describe(&of, &keys, all, session).await?,
        ConfigCommand::Set { of, settings } => {
            let changes = settings.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
            alter(&of, &changes.collect::<Vec<_>>(), session).await?;
        }
        ConfigCommand::Unset { of, keys } => {
            let changes = keys.into_iter().map(ConfigChange::Reset);
            alter(&of, &changes.collect::<Vec<_>>(), session).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn describe(of: &Of, keys: &[String], all: bool, session: &mut Session) -> Result<()> {
    let resource = of.resource(session).await?;
    let mut entries = session.admin().describe_configs(&resource).await?;
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    if let Some(missing) = keys.iter().find(|key| !entries.iter().any(|entry| entry.key == **key)) {
        return Err(NotFound(format!("{resource} has no key {missing}: --all shows those there are")).into());
    }
    let is_wanted = |entry: &&ConfigEntry| match keys {
        [] => all || !entry.is_default,
        keys => keys.contains(&entry.key),
    };
    let rows: Vec<Row> = entries
        .iter()
        .filter(is_wanted)
        .map(|entry| Row {
            resource: resource.to_string(),
            key: &entry.key,
            value: entry.value.as_deref(),
            is_default: entry.is_default,
            is_set_here: entry.is_set_here,
            is_read_only: entry.is_read_only,
            is_sensitive: entry.is_sensitive,
        })
        .collect();
    let columns = [
        Column::new("key", "KEY"),
        Column::new("value", "VALUE"),
        Column::new("is_default", "DEFAULT"),
        Column::new("is_read_only", "READ-ONLY"),
    ];
    session.out.rows(&columns, &rows, "all keys have their defaults; --all shows them")?;
    Ok(())
}

async fn alter(of: &Of, changes: &[ConfigChange], session: &mut Session) -> Result<()> {
    let resource = of.resource(session).await?;
    session.admin().alter_configs(&resource, changes).await?;
    let row = json!({"resource": resource.to_string(), "result": "altered"});
    session.out.done(&row, &format!("{resource}: altered"))?;
    Ok(())
}
