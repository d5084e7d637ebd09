//! The process's log on standard error: for people by default (with colours on a terminal), JSON on demand. `RUST_LOG` sets the
//! detail, for example `RUST_LOG=info,ottla_storage=debug`.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::LogFormat;

/// The Raft library: what it tells at other levels is for its developers, and comes only when `RUST_LOG` names it.
const CONSENSUS: &str = "openraft";

/// Starts logging. A second call (tests) changes nothing.
pub fn start(format: LogFormat) {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, wrong) = filter(&directives);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let first = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_ok();
    if let (true, Some(wrong)) = (first, wrong) {
        tracing::warn!(
            "RUST_LOG={directives} is not understood ({wrong}), logging at info; write for example RUST_LOG=debug or RUST_LOG=info,ottla_storage=debug"
        );
    }
}

/// The filter that `RUST_LOG` asks for, and what is wrong with it if something is.
fn filter(directives: &str) -> (Targets, Option<String>) {
    let usual = Targets::new().with_default(LevelFilter::INFO).with_target(CONSENSUS, LevelFilter::WARN);
    if directives.trim().is_empty() {
        return (usual, None);
    }
    match directives.parse::<Targets>() {
        Ok(filter) if directives.contains(CONSENSUS) => (filter, None),
        Ok(filter) => (filter.with_target(CONSENSUS, LevelFilter::WARN), None),
        Err(error) => (usual, Some(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::filter;

    #[test]
    fn the_filter_follows_rust_log() {
        let (usual, wrong) = filter("");
        assert!(
            wrong.is_none()
                && usual.would_enable("x", &Level::INFO)
                && !usual.would_enable("x", &Level::DEBUG)
        );
        let (detailed, wrong) = filter("warn,ottla_storage=debug");
        assert!(wrong.is_none());
        assert!(
            detailed.would_enable("ottla_storage::log", &Level::DEBUG)
                && !detailed.would_enable("x", &Level::INFO)
        );
        for quiet in [usual, filter("debug").0] {
            assert!(!quiet.would_enable("openraft::engine", &Level::INFO));
        }
        assert!(filter("info,openraft=debug").0.would_enable("openraft::engine", &Level::DEBUG));
        let (usual, wrong) = filter("x=nonsense");
        assert!(wrong.is_some() && usual.would_enable("x", &Level::INFO));
    }
}
