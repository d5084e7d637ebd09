//! Produce 0 to 2: advertised, because old librdkafka asks for it before it believes that a broker takes record batches,
//! and answered with UNSUPPORTED_VERSION, because the message formats of those versions are not served.

use ottla_protocol::generated::{ErrorCode, ResponseHeader};
use ottla_protocol::wire::{Reader, Str, Writer};
use ottla_transport::server::{Reply, ReplyFrame};

use crate::dispatch::Call;

/// Answers each partition of the request with UNSUPPORTED_VERSION.
///
/// # Errors
/// A request that cannot be read closes the connection.
pub fn handle(call: &Call, reader: &mut Reader) -> Result<Reply, String> {
    reader.set_flexible(false);
    let acks = reader.i16();
    let _timeout_ms = reader.i32();
    let topics: Vec<(Str, Vec<i32>)> = reader.array(6, |r| {
        let name = r.str();
        let partitions = r.array(8, |r| {
            let index = r.i32();
            r.nullable_bytes();
            index
        });
        (name, partitions)
    });
    reader.check().map_err(|error| format!("Produce version {}: {error}", call.version))?;
    if acks == 0 {
        return Ok(Reply::Close("Produce versions below 3 are not served".into()));
    }
    let mut writer = Writer::with_capacity(256);
    ResponseHeader { correlation_id: call.correlation_id(), ..Default::default() }.write(&mut writer, 0);
    writer.set_flexible(false);
    writer.array(&topics, |w, (name, partitions)| {
        w.str(name);
        w.array(partitions, |w, index| {
            w.i32(*index);
            w.i16(ErrorCode::UnsupportedVersion.code());
            w.i64(-1);
            if call.version >= 2 {
                w.i64(-1);
            }
        });
    });
    if call.version >= 1 {
        let throttle_time_ms = 0;
        writer.i32(throttle_time_ms);
    }
    call.count_error(ErrorCode::UnsupportedVersion);
    call.finish();
    let encoded = writer.finish_bytes().map_err(|error| error.to_string())?;
    Ok(Reply::Ready(ReplyFrame::new(encoded)))
}
