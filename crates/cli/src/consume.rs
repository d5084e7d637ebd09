//! `ottla consume`.

mod format;

use std::collections::BTreeMap;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use ottla_client_sdk::{
    Consumer, ConsumerOptions, ConsumerRecord, Error, GroupConsumer, Isolation, Position, StartAt,
    TopicPartition,
};
use tokio::time::Instant;

use crate::arguments::{self, PLACE_FORMS, Partitions, Place};
use crate::output::{Out, remark};
use crate::record_json::Line;
use crate::session::{Session, stopped};
use format::Format;

/// How often what nobody waits for is looked at: ends reached without a record, idleness, output that waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `consume`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla consume orders                                # what is there now
  ottla consume orders --from end --follow            # what comes from now on
  ottla consume orders --from 10m --to 5m             # by time
  ottla consume orders --from -3 --partitions 0       # the last three of partition 0
  ottla consume orders --group readers                # as a member of a group
  ottla consume orders --format '{partition} {offset} {key}={value}'")]
pub struct ConsumeArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to begin; the beginning by default. In a group: where there is no committed offset (beginning or end)
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = arguments::place, long_help = format!("Where to begin; the beginning by default. In a group it counts where there is no committed offset, and is beginning or end. A place is {PLACE_FORMS}"))]
    from: Option<Place>,
    /// Where to end, before that place; the end as of now by default
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = arguments::place, conflicts_with_all = ["follow", "group"], long_help = format!("Where to end, before that place; the end as of now by default. A place is {PLACE_FORMS}"))]
    to: Option<Place>,
    /// Waits for what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Reads as a member of this group, which remembers what has been read; until Ctrl-C
    #[arg(short, long, value_name = "ID")]
    group: Option<String>,
    /// Only these partitions, for example 0,3 or 0-5
    #[arg(short, long, value_parser = arguments::partitions, conflicts_with = "group")]
    partitions: Option<Partitions>,
    /// Ends after this many records
    #[arg(short = 'n', long, value_parser = arguments::count)]
    count: Option<u64>,
    /// Ends when nothing has come for this time
    #[arg(long, value_name = "TIME", value_parser = arguments::duration)]
    idle_exit: Option<Duration>,
    /// A line: text with {topic}, {partition}, {offset}, {timestamp}, {key}, {value}, {headers}; {value} by default
    #[arg(long, value_name = "TEXT")]
    format: Option<String>,
    /// Key and value with this text between; \\t is a tab
    #[arg(short, long, value_name = "TEXT", conflicts_with = "format")]
    key_separator: Option<String>,
    /// Shows records of open and aborted transactions too
    #[arg(long)]
    uncommitted: bool,
}

/// What ends a run, and how records are written.
struct Sink<'a> {
    out: &'a mut Out,
    format: Format,
    left: Option<u64>,
    idle_exit: Option<Duration>,
    last: Instant,
}

/// Runs the command.
///
/// # Errors
/// A topic or partition that does not exist; what keeps brokers from answering.
pub async fn run(args: ConsumeArgs, session: &mut Session) -> Result<ExitCode> {
    let text = match (&args.format, &args.key_separator) {
        (Some(format), _) => format!("{}\n", arguments::unescape(format)),
        (None, Some(separator)) => format!("{{key}}{}{{value}}\n", arguments::unescape(separator)),
        (None, None) => "{value}\n".to_owned(),
    };
    let isolation = if args.uncommitted { Isolation::Uncommitted } else { Isolation::Committed };
    let options = session.client.consumer().isolation(isolation);
    let format = Format::parse(&text)?;
    if args.group.is_some() {
        let sink = Sink::new(&args, format, &mut session.out);
        return as_member(&args, options, sink).await;
    }
    let spans = spans(&args, session, isolation).await?;
    let consumer = options.start_at(StartAt::Nowhere).start()?;
    let sink = Sink::new(&args, format, &mut session.out);
    let done = by_hand(&consumer_spans(&args, &spans), consumer, sink).await;
    done.map(|()| ExitCode::SUCCESS)
}

impl<'a> Sink<'a> {
    fn new(args: &ConsumeArgs, format: Format, out: &'a mut Out) -> Sink<'a> {
        Sink { out, format, left: args.count, idle_exit: args.idle_exit, last: Instant::now() }
    }

    /// Writes a record; is it the last one that is wanted?
    fn put(&mut self, record: &ConsumerRecord) -> Result<bool> {
        self.last = Instant::now();
        if self.out.is_json() {
            self.out.json(&Line::from(record))?;
        } else {
            self.format.write(record, self.out)?;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        Ok(self.left == Some(0))
    }

    /// Nothing has come for a moment; has that been long enough?
    fn rest(&mut self) -> Result<bool> {
        self.out.flush()?;
        Ok(self.idle_exit.is_some_and(|limit| self.last.elapsed() >= limit))
    }
}

/// What is read of a partition: from an offset to before another, or on and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: i64,
    to: i64,
}

/// With nothing to end at, a span has no end.
fn consumer_spans(
    args: &ConsumeArgs,
    spans: &BTreeMap<TopicPartition, Span>,
) -> BTreeMap<TopicPartition, Span> {
    let is_open = args.follow;
    let open = |span: &Span| if is_open { Span { to: i64::MAX, ..*span } } else { *span };
    let spans = spans.iter().map(|(place, span)| (place.clone(), open(span)));
    spans.filter(|(_, span)| span.from < span.to).collect()
}

async fn places(args: &ConsumeArgs, session: &Session) -> Result<Vec<TopicPartition>> {
    let mut places = Vec::new();
    for name in &args.topics {
        let topic = session.client.topic(name).await?;
        let count = topic.partitions_count();
        let indexes = match &args.partitions {
            None => (0..count).collect(),
            Some(Partitions(indexes)) => indexes.clone(),
        };
        if let Some(partition) = indexes.iter().find(|index| **index >= count) {
            let topic = name.clone();
            bail!(Error::NoSuchPartition { topic, partition: *partition, count });
        }
        places.extend(indexes.into_iter().map(|index| TopicPartition::new(name, index)));
    }
    Ok(places)
}

async fn spans(
    args: &ConsumeArgs,
    session: &Session,
    isolation: Isolation,
) -> Result<BTreeMap<TopicPartition, Span>> {
    let places = places(args, session).await?;
    let admin = session.admin();
    let wanted =
        |position: Position| places.iter().map(|place| (place.clone(), position)).collect::<Vec<_>>();
    let from = args.from.unwrap_or(Place::Beginning);
    let to = args.to.unwrap_or(Place::End);
    let beginnings = admin.find_offsets(&wanted(Position::Beginning), isolation).await?;
    let froms = admin.find_offsets(&wanted(from.position()), isolation).await?;
    let tos = admin.find_offsets(&wanted(to.position()), isolation).await?;
    let ends = admin.find_offsets(&wanted(Position::End), isolation).await?;
    let spans = beginnings.into_iter().filter_map(|(place, beginning)| {
        let (beginning, end) = (beginning.offset, ends.get(&place)?.offset);
        let settled =
            |wanted: Place, found: i64| wanted.offset(found, beginning).clamp(beginning, end.max(beginning));
        let from = settled(from, froms.get(&place)?.offset);
        let to = settled(to, tos.get(&place)?.offset);
        Some((place, Span { from, to }))
    });
    Ok(spans.collect())
}

async fn by_hand(
    spans: &BTreeMap<TopicPartition, Span>,
    mut consumer: Consumer,
    mut sink: Sink<'_>,
) -> Result<()> {
    let assignment = spans.iter().map(|(place, span)| (place.clone(), Position::Offset(span.from)));
    consumer.assign(assignment);
    let mut open = spans.clone();
    let mut stop = pin!(stopped());
    let mut look = tokio::time::interval(LOOK_EVERY);
    while !open.is_empty() && sink.left != Some(0) {
        // All are cancel-safe: `recv` loses no record.
        tokio::select! {
            biased;
            () = &mut stop => break,
            record = consumer.recv() => {
                let record = record?;
                let place = TopicPartition { topic: record.topic_name().clone(), partition: record.partition() };
                let Some(span) = open.get(&place).copied() else { continue };
                if record.offset() < span.to && sink.put(&record)? {
                    break;
                }
                if record.offset() + 1 >= span.to {
                    // What the partition holds beyond is not fetched for nothing.
                    consumer.pause(&place)?;
                    open.remove(&place);
                }
            }
            _ = look.tick() => {
                // The last offsets may hold no record that is shown: markers, gaps of compaction.
                open.retain(|place, span| consumer.position(place).is_none_or(|position| position < span.to));
                if sink.rest()? {
                    break;
                }
            }
        }
    }
    consumer.close().await;
    Ok(())
}

async fn as_member(args: &ConsumeArgs, options: ConsumerOptions, mut sink: Sink<'_>) -> Result<ExitCode> {
    let start = match args.from {
        None | Some(Place::Beginning) => StartAt::Beginning,
        Some(Place::End) => StartAt::End,
        Some(_) => {
            bail!("--from of a group is beginning or end: `ottla group reset` sets the group's offsets")
        }
    };
    let group = args.group.as_deref().unwrap_or_default();
    let options = options.start_at(start).group(group).subscribe(args.topics.iter().map(String::as_str));
    let mut member: GroupConsumer = options.start()?;
    let done = read_as_member(&mut member, &mut sink).await;
    // Commits what was written, and leaves.
    member.close().await?;
    done.map(|()| ExitCode::SUCCESS)
}

async fn read_as_member(member: &mut GroupConsumer, sink: &mut Sink<'_>) -> Result<()> {
    let mut stop = pin!(stopped());
    let mut look = tokio::time::interval(LOOK_EVERY);
    while sink.left != Some(0) {
        // All are cancel-safe: `recv` loses no record.
        tokio::select! {
            biased;
            () = &mut stop => break,
            record = member.recv() => match record {
                Ok(record) => {
                    sink.put(&record)?;
                }
                Err(error) if error.is_retriable() => remark(&format!("ottla: {error}; trying on")),
                Err(error) => return Err(error.into()),
            },
            _ = look.tick() => {
                if sink.rest()? {
                    break;
                }
            }
        }
    }
    sink.out.flush()?;
    Ok(())
}
