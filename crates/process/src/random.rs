//! The system's random numbers.

use ottla_protocol::ids::Uuid;

/// 128 random bits.
///
/// # Panics
/// When the system has none.
#[must_use]
pub fn id() -> Uuid {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(bytes.len()), "the system has random numbers");
    Uuid(bytes)
}
