//! What the process says about itself, and the `health` subcommand that asks for it.

use std::sync::Mutex;

/// Where the process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Recovering logs, not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Serving, but something needs an operator (a fenced log directory, no space), with the text.
    Degraded(String),
    /// The orderly stop has begun.
    Stopping,
}

/// The state, shared between the broker and the HTTP listener.
#[derive(Debug)]
pub struct Health {
    /// Guards the state alone; never held across anything that blocks.
    state: Mutex<State>,
}

impl Default for Health {
    fn default() -> Self {
        Health { state: Mutex::new(State::Starting) }
    }
}

impl Health {
    /// Sets the state. `Stopping` is final.
    pub fn set(&self, state: State) {
        let mut current = self.state.lock().expect("no panic while it is held");
        if *current != State::Stopping {
            *current = state;
        }
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state.lock().expect("no panic while it is held").clone()
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Starting => f.write_str("starting"),
            State::Ready => f.write_str("ready"),
            State::Degraded(why) => write!(f, "degraded: {why}"),
            State::Stopping => f.write_str("stopping"),
        }
    }
}
