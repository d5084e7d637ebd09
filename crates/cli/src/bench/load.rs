//! The records of a benchmark: text-like values that compress about by half, the same in each run.

/// Bytes that values are cut from.
const POOL_BYTES: usize = 4 << 20;
/// The step from one value to the next; odd, so that few values are alike.
const STEP: usize = 61;

/// Values.
pub struct Load {
    pool: Vec<u8>,
    record_bytes: usize,
}

impl Load {
    /// Values of `record_bytes` each.
    pub fn new(record_bytes: usize) -> Load {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let words = ["broker", "offset", "partition", "leader", "epoch", "record", "batch", "topic"];
        let mut pool = Vec::new();
        while pool.len() < POOL_BYTES + record_bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            pool.extend_from_slice(words[(state % 8) as usize].as_bytes());
            pool.extend_from_slice(format!("={:x} ", state >> 40).as_bytes());
        }
        Load { pool, record_bytes }
    }

    /// The value of a record.
    pub fn value(&self, index: u64) -> &[u8] {
        let from = (index as usize).wrapping_mul(STEP) % POOL_BYTES;
        &self.pool[from..from + self.record_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_are_not_alike() {
        for bytes in [0, 1, 100, 5 << 20] {
            let load = Load::new(bytes);
            assert!([0, 1, u64::MAX].iter().all(|index| load.value(*index).len() == bytes));
        }
        assert_ne!(Load::new(100).value(0), Load::new(100).value(1));
    }
}
