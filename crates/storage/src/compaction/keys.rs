//! Which offset holds the last record of a key: a table of hashes, of a size that is given.

use std::hash::{BuildHasher, Hasher, RandomState};

use ottla_protocol::ids::Offset;

/// 128 bits of a key under secret keys: two runs of the standard library's SipHash. Nobody who chooses keys can make two of
/// them alike, and by chance it does not happen: among 2^40 keys with a chance of 2^-49.
#[derive(Clone, Debug)]
pub struct KeyHash {
    low: RandomState,
    high: RandomState,
}

impl KeyHash {
    /// With new secret keys from the system.
    #[must_use]
    pub fn random() -> Self {
        Self { low: RandomState::new(), high: RandomState::new() }
    }

    fn of(&self, key: &[u8]) -> [u64; 2] {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            hasher.finish()
        };
        [half(&self.low), half(&self.high)]
    }
}

/// Bytes of an entry: Kafka's are as large.
pub const ENTRY_BYTES: usize = 24;
/// A table is never smaller.
pub const SLOTS_MIN: usize = 64;

/// Hash and offset, one more than it is: 0 is an empty slot.
type Entry = [u64; 3];
const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

/// The table: open addressing, never grown.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    hash: KeyHash,
    slots: Vec<Entry>,
    used: usize,
    used_max: usize,
}

impl OffsetMap {
    /// A table of `bytes`, filled to the share `load_factor`, but not larger than `keys` need.
    pub(crate) fn new(hash: KeyHash, bytes: u64, load_factor: f64, keys: u64) -> Self {
        let load_factor = if load_factor.is_finite() { load_factor.clamp(0.1, 0.95) } else { 0.9 };
        let affordable = usize::try_from(bytes).unwrap_or(usize::MAX) / ENTRY_BYTES;
        let wanted = (keys as f64 / load_factor).ceil() + 1.0;
        let slots = affordable.min(wanted as usize).max(SLOTS_MIN);
        // Below one empty slot a search for what is not there would not end.
        let used_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        Self { hash, slots: vec![[0; 3]; slots], used: 0, used_max }
    }

    /// Index of the slot that holds the hash, or would.
    fn slot(&self, [low, high]: [u64; 2]) -> usize {
        let len = self.slots.len();
        // The upper half of a product spreads a hash over any number of slots.
        let mut index = ((u128::from(low) * len as u128) >> 64) as usize;
        loop {
            let entry = self.slots[index];
            if entry[2] == 0 || entry[0] == low && entry[1] == high {
                return index;
            }
            index = if index + 1 == len { 0 } else { index + 1 };
        }
    }

    /// Notes that `key` is at `offset`, above all that were noted. False when the table is full; nothing is noted then.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash.of(key);
        let slot = self.slot(hash);
        if self.slots[slot][2] == 0 {
            if self.used == self.used_max {
                return false;
            }
            self.used += 1;
        }
        self.slots[slot] = [hash[0], hash[1], offset.0.unsigned_abs() + 1];
        true
    }

    /// The highest offset noted for `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slot(self.hash.of(key));
        self.slots[slot][2].checked_sub(1).map(|offset| Offset(offset.cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_found_until_the_table_is_full() {
        for (bytes, load_factor, fits) in
            [(24_000, 0.9, 900), (24_000, 0.5, 500), (0, 0.9, 57), (24_000, f64::NAN, 900)]
        {
            let mut map = OffsetMap::new(KeyHash::random(), bytes, load_factor, 1 << 40);
            let key = |i: i64| format!("key {i}").into_bytes();
            let count = (0..2000).take_while(|&i| map.put(&key(i), Offset(i))).count() as i64;
            assert_eq!(count, fits);
            assert!(map.put(&key(3), Offset(5000)), "it is there already");
            assert_eq!(map.get(&key(3)), Some(Offset(5000)));
            assert!((0..count).filter(|&i| i != 3).all(|i| map.get(&key(i)) == Some(Offset(i))));
            assert!((count..3000).all(|i| map.get(&key(i)).is_none()));
        }
    }

    #[test]
    fn a_table_is_not_larger_than_what_it_is_for() {
        let map = OffsetMap::new(KeyHash::random(), 128 << 20, 0.9, 900);
        assert_eq!(map.slots.len(), 1001);
        let mut map = OffsetMap::new(KeyHash::random(), 128 << 20, 0.9, 900);
        assert!((0..900_i64).all(|i| map.put(&i.to_be_bytes(), Offset(i))));
    }
}
