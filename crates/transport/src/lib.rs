//! Both ends of a framed connection.
