//! Domain types for the numbers of the protocol, so that an offset is never taken for an epoch or a broker id.
//! Generated messages carry plain integers; handlers convert at the edge.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Place of a record in its partition's log, counted in records from 0.
    Offset(i64)
}
number! {
    /// Leader epoch of a partition; rises by one with each election. -1 where none is known.
    LeaderEpoch(i32)
}
number! {
    /// Id of a broker (`node.id`); -1 where there is none.
    BrokerId(i32)
}
number! {
    /// Id of an idempotent or transactional producer; -1 where there is none.
    ProducerId(i64)
}

impl Offset {
    /// The offset `count` records further on.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl LeaderEpoch {
    /// No epoch known (-1 on the wire).
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// A batch without a producer id (-1 on the wire).
    pub const NONE: Self = Self(-1);
}

/// 128 random bits: topic ids, directory ids, incarnation ids. Shown as Kafka shows them (URL-safe base64 without padding).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The all-zero id, which stands for "no id".
    pub const ZERO: Self = Self([0; 16]);

    /// True for the all-zero id.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }

    /// Parses Kafka's text form: 22 characters of URL-safe base64. `None` when it is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return None;
        }
        let mut bits: u32 = 0;
        let mut bit_count = 0;
        let mut out = [0u8; 16];
        let mut at = 0;
        for &c in text {
            let value = ALPHABET.iter().position(|&a| a == c)?;
            bits = (bits << 6) | u32::try_from(value).ok()?;
            bit_count += 6;
            if bit_count >= 8 {
                bit_count -= 8;
                *out.get_mut(at)? = (bits >> bit_count) as u8;
                bits &= (1 << bit_count) - 1;
                at += 1;
            }
        }
        (bits == 0).then_some(Self(out))
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let bits = u128::from_be_bytes(self.0);
        for (i, c) in text.iter_mut().enumerate() {
            let index = if i < 21 { (bits >> (122 - 6 * i)) & 63 } else { (bits & 3) << 4 };
            *c = ALPHABET[index as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_round_trips() {
        let id = Uuid([0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0x8f]);
        assert_eq!(id.to_string(), "_wECAwQFBgcICQoLDA0Ojw");
        assert_eq!(Uuid::parse(&id.to_string()), Some(id));
        assert_eq!(Uuid::parse("_wECAwQFBgcICQoLDA0Oj"), None);
        assert_eq!(Uuid::parse("!wECAwQFBgcICQoLDA0Ojw"), None);
    }
}
