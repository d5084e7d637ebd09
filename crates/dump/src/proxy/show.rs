//! Takes the events of a proxy and shows them.

use std::io::{self, BufWriter};

use tokio::sync::mpsc::error::TryRecvError;

use super::{Event, Events};
use crate::file::FrameWriter;
use crate::printer::Printer;
use crate::session::Sessions;

/// Shows the events of a proxy until they end; blocks. Whenever none is there, what was shown is handed on.
///
/// # Errors
/// Those of the output. The proxy ends then.
pub fn show(
    mut events: Events,
    mut sessions: Sessions,
    mut printer: Printer,
    mut recording: Option<FrameWriter<BufWriter<std::fs::File>>>,
) -> io::Result<()> {
    loop {
        let next = match events.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                printer.flush()?;
                recording.as_mut().map_or(Ok(()), FrameWriter::flush)?;
                events.blocking_recv()
            }
        };
        match next {
            Some(event) => show_one(event, &mut sessions, &mut printer, &mut recording)?,
            None => {
                printer.flush()?;
                return recording.as_mut().map_or(Ok(()), FrameWriter::flush);
            }
        }
    }
}

fn show_one(
    event: Event,
    sessions: &mut Sessions,
    printer: &mut Printer,
    recording: &mut Option<FrameWriter<BufWriter<std::fs::File>>>,
) -> io::Result<()> {
    match event {
        Event::Opened { connection, client, upstream } => {
            printer.title(&format!("c{connection} {client} connects to {upstream}\n"))
        }
        Event::Frame { seen, room } => {
            if let Some(recording) = recording {
                recording.write(&seen)?;
            }
            let shown = sessions.see(seen).map_or(Ok(()), |frame| printer.frame(&frame));
            drop(room);
            shown
        }
        Event::Unreadable { connection, direction, why } => printer.unreadable(connection, direction, &why),
        Event::Closed { connection, why } => {
            sessions.close(connection);
            if let Some(why) = &why {
                tracing::warn!(connection, why, "connection broke");
            }
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            printer.title(&format!("c{connection} ends{why}\n"))
        }
    }
}
