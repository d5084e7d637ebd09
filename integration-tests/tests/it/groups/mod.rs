//! Consumer groups, by third-party clients and on the wire.

mod admin;
mod cooperative;
mod crowd;
mod group;
mod librdkafka;
mod load;
mod member;
mod mixed;
mod refusals;
mod static_members;
mod table;
mod torment;
