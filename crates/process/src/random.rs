//! The system's random numbers.

use ottla_protocol::ids::Uuid;

/// 128 random bits.
///
/// # Panics
/// When the system has none.
#[must_use]
pub fn id() -> Uuid {
    Uuid(bytes())
}

/// 64 random bits.
///
/// # Panics
/// When the system has none.
#[must_use]
pub fn number() -> u64 {
    u64::from_ne_bytes(bytes())
}

fn bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    assert_eq!(filled, Ok(LENGTH), "the system has random numbers");
    bytes
}
