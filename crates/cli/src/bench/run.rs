//! The runs themselves.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use futures_util::FutureExt;
use ottla_client_sdk::{
    Acks, Consumer, Delivery, ErrorCode, Isolation, NewTopic, Position, Producer, Record, StartAt,
    TopicPartition,
};
use tokio::time::Instant;

use super::load::Load;
use super::report::Meter;
use super::{ConsumeBench, ProduceBench};
use crate::output::remark;
use crate::produce::Pace;
use crate::session::{Session, stopped};

const DURATION: Duration = Duration::from_secs(10);
const LATENCY_RATE: u64 = 1_000;
/// Acknowledgements that may be outstanding.
const DELIVERIES_MAX: usize = 200_000;
/// Bytes at the beginning of a value that say when it was sent.
const STAMP_BYTES: usize = 16;
/// A reader to whom nothing comes for so long has read all there is.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long what was sent may take to be read.
const READ_MAX: Duration = Duration::from_secs(30);

/// Creates the topic, unless it is there.
async fn prepare(args: &ProduceBench, session: &Session) -> Result<()> {
    let mut topic = NewTopic::new(&args.topic).partitions(args.partitions);
    if let Some(replicas) = args.replicas {
        topic = topic.replication_factor(replicas);
    }
    match session.admin().create_topic(&topic).await {
        Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => Err(error.into()),
        _ => Ok(()),
    }
}

async fn producer(args: &ProduceBench, session: &Session) -> Result<Producer> {
    let acks = Acks::from(args.acks);
    let options = session.client.producer().acks(acks).idempotence(acks == Acks::All);
    Ok(options.compression(args.compression.into()).linger(args.linger).start().await?)
}

/// When a run ends.
struct Limits {
    records: u64,
    until: Instant,
}

impl Limits {
    fn new(records: Option<u64>, duration: Option<Duration>) -> Limits {
        // Records alone are a limit; without any the time is.
        let far = Duration::from_secs(86_400);
        let duration = duration.unwrap_or(if records.is_some() { far } else { DURATION });
        Limits { records: records.unwrap_or(u64::MAX), until: Instant::now() + duration }
    }
}

/// `bench produce`.
pub async fn produce(args: ProduceBench, session: &mut Session) -> Result<()> {
    prepare(&args, session).await?;
    let producer = producer(&args, session).await?;
    let load = Load::new(args.size);
    let limits = Limits::new(args.records, args.duration);
    let mut pace = args.rate.map(Pace::new);
    let mut meter = Meter::new(args.records);
    let mut waiting: VecDeque<(Instant, Delivery)> = VecDeque::new();
    let mut stop = pin!(stopped());
    for index in 0..limits.records {
        let sent = match &mut pace {
            // From the record's turn, not from when it got out: a producer that is held up makes records late.
            Some(pace) => pace.wait().await,
            None => Instant::now(),
        };
        if sent >= limits.until || stop.as_mut().now_or_never().is_some() {
            break;
        }
        waiting.push_back((sent, producer.send(Record::to(&args.topic).value(load.value(index))).await?));
        while let Some((sent, delivery)) = waiting.front_mut() {
            let Some(receipt) = delivery.now_or_never() else { break };
            receipt?;
            meter.count(args.size, Some(sent.elapsed()));
            waiting.pop_front();
        }
        if waiting.len() >= DELIVERIES_MAX {
            settle(&mut waiting, &mut meter, args.size).await?;
        }
    }
    while !waiting.is_empty() {
        settle(&mut waiting, &mut meter, args.size).await?;
    }
    producer.close().await?;
    meter.finish("produce", &args.topic, &mut session.out)
}

/// Waits for the oldest acknowledgement.
async fn settle(waiting: &mut VecDeque<(Instant, Delivery)>, meter: &mut Meter, bytes: usize) -> Result<()> {
    if let Some((sent, delivery)) = waiting.pop_front() {
        delivery.await?;
        meter.count(bytes, Some(sent.elapsed()));
    }
    Ok(())
}

/// `bench consume`.
pub async fn consume(args: ConsumeBench, session: &mut Session) -> Result<()> {
    let admin = session.admin();
    let topic = admin.describe_topic(&args.topic).await?;
    let bounds = crate::topic::bounds(&admin, &topic).await?;
    let there: u64 = bounds.values().map(|(beginning, end)| (end - beginning).max(0) as u64).sum();
    let limits = Limits::new(Some(args.records.unwrap_or(u64::MAX).min(there)), args.duration);
    let consumer = session.client.consumer().isolation(Isolation::Uncommitted).start_at(StartAt::Beginning);
    let mut consumer = consumer.start()?;
    let places = bounds.keys().map(|index| (TopicPartition::new(&args.topic, *index), Position::Beginning));
    consumer.assign(places);
    let mut meter = Meter::new(Some(limits.records));
    let mut stop = pin!(stopped());
    while meter.records() < limits.records {
        // All are cancel-safe.
        tokio::select! {
            biased;
            () = &mut stop => break,
            record = consumer.recv() => {
                let record = record?;
                let bytes = record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                meter.count(bytes, None);
            }
            // Compaction leaves fewer records than offsets.
            () = tokio::time::sleep(SILENCE_MAX) => {
                meter.leave_out(SILENCE_MAX);
                remark("no record came for a while: the rest of the offsets hold none, or the cluster stands still");
                break;
            }
        }
        if meter.records().is_multiple_of(1024) && Instant::now() >= limits.until {
            break;
        }
    }
    consumer.close().await;
    meter.finish("consume", &args.topic, &mut session.out)
}

/// `bench latency`.
pub async fn latency(mut args: ProduceBench, session: &mut Session) -> Result<()> {
    prepare(&args, session).await?;
    args.size = args.size.max(STAMP_BYTES);
    let producer = producer(&args, session).await?;
    let consumer = session.client.consumer().start_at(StartAt::End).start()?;
    let mut meter = Meter::new(args.records);
    // A run knows its records by its own number: others may write to the topic too.
    let run = since_1970().as_nanos() as u64;
    let ends = ends(&args.topic, session).await?;
    consumer.assign(ends);
    let sending = send_stamped(&args, &producer, run);
    let done = exchange(sending, consumer, &mut meter, run).await;
    producer.close().await?;
    done?;
    meter.finish("latency", &args.topic, &mut session.out)
}

async fn ends(topic: &str, session: &Session) -> Result<Vec<(TopicPartition, Position)>> {
    let topic = session.client.topic(topic).await?;
    let wanted: Vec<_> = (0..topic.partitions_count())
        .map(|index| (TopicPartition { topic: topic.name.clone(), partition: index }, Position::End))
        .collect();
    let found = session.admin().find_offsets(&wanted, Isolation::Committed).await?;
    Ok(found.into_iter().map(|(place, end)| (place, Position::Offset(end.offset))).collect())
}

async fn send_stamped(args: &ProduceBench, producer: &Producer, run: u64) -> Result<u64> {
    let load = Load::new(args.size - STAMP_BYTES);
    let limits = Limits::new(args.records, args.duration);
    let mut pace = Pace::new(args.rate.unwrap_or(LATENCY_RATE));
    let mut value = Vec::new();
    let mut stop = pin!(stopped());
    for index in 0..limits.records {
        let turn = pace.wait().await;
        if turn >= limits.until || stop.as_mut().now_or_never().is_some() {
            return Ok(index);
        }
        let stamp = since_1970().saturating_sub(turn.elapsed()).as_nanos() as u64;
        value.clear();
        value.extend_from_slice(&run.to_be_bytes());
        value.extend_from_slice(&stamp.to_be_bytes());
        value.extend_from_slice(load.value(index));
        // Its fate shows in what is read.
        drop(producer.send(Record::to(&args.topic).value(&value)).await?);
    }
    Ok(limits.records)
}

async fn exchange(
    sending: impl Future<Output = Result<u64>>,
    mut consumer: Consumer,
    meter: &mut Meter,
    run: u64,
) -> Result<()> {
    let mut sending = pin!(sending);
    let mut sent = None;
    let mut deadline = Instant::now() + Duration::from_secs(86_400);
    while sent.is_none_or(|sent| meter.records() < sent) {
        // All are cancel-safe: `sending` goes on, `recv` loses no record.
        tokio::select! {
            count = &mut sending, if sent.is_none() => {
                sent = Some(count?);
                deadline = Instant::now() + READ_MAX;
            }
            record = consumer.recv() => {
                let record = record?;
                let value = record.value().unwrap_or_default();
                let Some((stamp, rest)) = value.split_first_chunk::<8>() else { continue };
                if u64::from_be_bytes(*stamp) != run {
                    continue;
                }
                if let Some((sent, _)) = rest.split_first_chunk::<8>() {
                    let latency = since_1970().saturating_sub(Duration::from_nanos(u64::from_be_bytes(*sent)));
                    meter.count(value.len(), Some(latency));
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                anyhow::bail!("{} of {} records were not read within {READ_MAX:?}: `ottla cluster health` shows what is away", sent.unwrap_or(0) - meter.records(), sent.unwrap_or(0));
            }
        }
    }
    consumer.close().await;
    Ok(())
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
