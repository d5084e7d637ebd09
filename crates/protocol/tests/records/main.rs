//! Record batches from outside: what Kafka wrote, round trips, what producers must not send, and the fuzzing corpus.

mod corpus;
mod fixtures;
mod lookup;
mod produced;
mod rewritten;
mod roundtrip;
mod support;
