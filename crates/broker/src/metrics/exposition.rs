//! The text of `/metrics`.
