//! What `produce` reads: standard input, or files one after the other.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// The largest line or file that is taken for a record.
const RECORD_BYTES_MAX: u64 = 256 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// One source.
pub struct Input {
    name: String,
    source: Source,
}

enum Source {
    Stdin,
    File(PathBuf),
}

impl Input {
    /// Standard input without files; `-` is standard input too.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn open(files: &[PathBuf]) -> Result<Vec<Input>> {
        let stdin = || Input { name: "standard input".to_owned(), source: Source::Stdin };
        if files.is_empty() {
            return Ok(vec![stdin()]);
        }
        let open = |path: &PathBuf| {
            if path.as_os_str() == "-" {
                return Ok(stdin());
            }
            let name = path.display().to_string();
            // Looked at before anything is sent.
            std::fs::metadata(path).with_context(|| format!("{name}: name a file that is there"))?;
            Ok(Input { name, source: Source::File(path.clone()) })
        };
        files.iter().map(open).collect()
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of it.
    ///
    /// # Errors
    /// It cannot be read, or is too large for a record.
    pub async fn whole(&self) -> Result<Vec<u8>> {
        let mut reader = self.reader().await?.take(RECORD_BYTES_MAX + 1);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.with_context(|| self.name.clone())?;
        if bytes.len() as u64 > RECORD_BYTES_MAX {
            bail!("{}: larger than {RECORD_BYTES_MAX} bytes: cut it into smaller records", self.name);
        }
        Ok(bytes)
    }

    /// Its lines.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn lines(self) -> Result<Lines> {
        let reader = BufReader::with_capacity(BUFFER_BYTES, self.reader().await?);
        Ok(Lines { name: self.name, reader, line: Vec::new(), is_given: true, number: 0 })
    }

    async fn reader(&self) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        Ok(match &self.source {
            Source::Stdin => Box::new(tokio::io::stdin()),
            Source::File(path) => Box::new(File::open(path).await.with_context(|| self.name.clone())?),
        })
    }
}

/// Lines of a source.
pub struct Lines {
    name: String,
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    line: Vec<u8>,
    /// Has `line` been given out? If not it is the beginning of one.
    is_given: bool,
    number: u64,
}

impl Lines {
    /// The source's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the last line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The last line, without its end.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Goes to the next line; false at the end. Cancel-safe: what has been read stays.
    ///
    /// # Errors
    /// The source cannot be read, or the line is too long.
    pub async fn advance(&mut self) -> Result<bool> {
        if self.is_given {
            self.line.clear();
            self.is_given = false;
        }
        let left = (RECORD_BYTES_MAX + 1).saturating_sub(self.line.len() as u64);
        let read = (&mut self.reader).take(left).read_until(b'\n', &mut self.line).await;
        read.with_context(|| self.name.clone())?;
        self.is_given = true;
        if self.line.is_empty() {
            return Ok(false);
        }
        self.number += 1;
        if self.line.len() as u64 > RECORD_BYTES_MAX {
            bail!("{}, line {}: too long for a record: is it a text file?", self.name, self.number);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        }
        Ok(true)
    }
}
