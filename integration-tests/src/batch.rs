//! Record batches of format 2 encoded by hand, independently of the product's own encoder, and open to every kind of
//! damage: all header fields are public and are written as they stand.

/// A batch about to be encoded. [`Batch::of`] gives a valid one; tests then spoil what they want to.
#[derive(Clone)]
#[allow(missing_docs, reason = "the fields of the format by their usual names")]
pub struct Batch {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub magic: i8,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
    /// The records, encoded, and compressed if `attributes` say so.
    pub records: Vec<u8>,
}

impl Batch {
    /// An uncompressed batch with these values, no keys, no producer id.
    pub fn of(values: &[&[u8]], timestamp_ms: i64) -> Batch {
        let keyed: Vec<(Option<&[u8]>, &[u8])> = values.iter().map(|value| (None, *value)).collect();
        Batch::of_keyed(&keyed, timestamp_ms)
    }

    /// An uncompressed batch with these keys and values.
    pub fn of_keyed(pairs: &[(Option<&[u8]>, &[u8])], timestamp_ms: i64) -> Batch {
        let mut records = Vec::new();
        for (delta, (key, value)) in pairs.iter().enumerate() {
            let delta = i64::try_from(delta).expect("a small count");
            records.extend(encode_record(delta, *key, value));
        }
        let count = i32::try_from(pairs.len()).expect("a small count");
        Batch {
            base_offset: 0,
            leader_epoch: -1,
            magic: 2,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: timestamp_ms,
            max_timestamp: timestamp_ms,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: count,
            records,
        }
    }

    /// As an idempotent producer sends it.
    pub fn by(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Batch {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// The whole batch, with its true length and checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.attributes.to_be_bytes());
        body.extend(self.last_offset_delta.to_be_bytes());
        body.extend(self.base_timestamp.to_be_bytes());
        body.extend(self.max_timestamp.to_be_bytes());
        body.extend(self.producer_id.to_be_bytes());
        body.extend(self.producer_epoch.to_be_bytes());
        body.extend(self.base_sequence.to_be_bytes());
        body.extend(self.records_count.to_be_bytes());
        body.extend(&self.records);
        let mut batch = Vec::new();
        batch.extend(self.base_offset.to_be_bytes());
        // What the length counts: leader epoch, magic and checksum, then the body.
        let length = i32::try_from(body.len() + 9).expect("a small batch");
        batch.extend(length.to_be_bytes());
        batch.extend(self.leader_epoch.to_be_bytes());
        batch.extend(self.magic.to_be_bytes());
        batch.extend(crc32c::crc32c(&body).to_be_bytes());
        batch.extend(body);
        batch
    }
}

/// One record: its length, then attributes, timestamp delta, offset delta, key, value and no headers.
pub fn encode_record(offset_delta: i64, key: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, 0);
    varint(&mut body, offset_delta);
    match key {
        Some(key) => {
            varint(&mut body, length(key));
            body.extend(key);
        }
        None => varint(&mut body, -1),
    }
    varint(&mut body, length(value));
    body.extend(value);
    varint(&mut body, 0);
    let mut record = Vec::new();
    varint(&mut record, length(&body));
    record.extend(body);
    record
}

fn length(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).expect("a length in memory")
}

/// A signed number in zigzag and 7 bits a byte, as records have it.
pub fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).expect("7 bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("7 bits"));
}
