//! What a client is allowed to do, as the bit field of KIP-430: bit `n` stands for the operation with Kafka's code `n`.
//! There are no access rules yet, so everything that a resource knows is allowed.

/// READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub const TOPIC: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub const GROUP: i32 = bits(&[3, 6, 8, 10, 11]);
/// CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
pub const CLUSTER: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// Nobody asked.
pub const NOT_ASKED: i32 = i32::MIN;

/// `all` if it was asked for.
#[must_use]
pub const fn if_asked(asked: bool, all: i32) -> i32 {
    if asked { all } else { NOT_ASKED }
}

const fn bits(codes: &[u8]) -> i32 {
    let mut field = 0;
    let mut i = 0;
    while i < codes.len() {
        field |= 1 << codes[i];
        i += 1;
    }
    field
}
