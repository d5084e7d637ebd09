//! The real file system. Positioned reads and writes only, so one descriptor serves any number of threads.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use rustix::fs::FlockOperation;
use rustix::io::{Errno, ReadWriteFlags};

use super::{Entry, File, Files, Open};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

impl RealFiles {
    /// As a shared file system.
    #[must_use]
    pub fn shared() -> Arc<dyn Files> {
        Arc::new(Self)
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    /// The file system knows RWF_NOWAIT; cleared by the first refusal.
    nowait: AtomicBool,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        retry(|| rustix::io::pread(&self.file, &mut *buf, position))
    }

    fn read_at_nowait(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        if self.nowait.load(Ordering::Relaxed) {
            let read = retry(|| {
                let mut parts = [IoSliceMut::new(buf)];
                rustix::io::preadv2(&self.file, &mut parts, position, ReadWriteFlags::NOWAIT)
            });
            match read {
                Err(error) if is_unsupported(&error) => self.nowait.store(false, Ordering::Relaxed),
                other => return other,
            }
        }
        // Without the flag nobody can tell whether the read waits; a file system of that kind is in memory, most likely.
        self.read_at(buf, position)
    }

    fn write_all_at(&self, mut parts: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        // Leading empty parts would make a write of nothing look like a full disk.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let written = retry(|| rustix::io::pwritev(&self.file, &*parts, position))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut parts, written);
            position += written as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let since = self.file.metadata()?.modified()?.duration_since(UNIX_EPOCH);
        // One of before 1970 was set by hand.
        Ok(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Files for RealFiles {
    fn open(&self, path: &Path, open: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match open {
            Open::Read => {}
            Open::ReadWrite => {
                options.write(true);
            }
            Open::Create => {
                options.write(true).create(true).truncate(false);
            }
        }
        Ok(Arc::new(RealFile { file: options.open(path)?, nowait: AtomicBool::new(true) }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in fs::read_dir(dir)? {
            let found = found?;
            let metadata = match found.metadata() {
                Ok(metadata) => metadata,
                // Removed since the name was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // What is not UTF-8 was not written by us, nor by Kafka.
            let Ok(name) = found.file_name().into_string() else { continue };
            let is_dir = metadata.is_dir();
            entries.push(Entry { name, is_dir, size_bytes: if is_dir { 0 } else { metadata.len() } });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync + std::fmt::Debug>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL]
        .iter()
        .any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_parts_and_reads_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFiles.open(&dir.path().join("f"), Open::Create).unwrap();
        let mut parts = [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        file.write_all_at(&mut parts, 3).unwrap();
        file.write_all_at(&mut [IoSlice::new(b"")], 100).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.size_bytes().unwrap(), 8);
        assert!(file.modified_ms().unwrap() > 1_600_000_000_000);
        let mut buf = [9; 16];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8);
        assert_eq!(&buf[..8], b"\0\0\0abcde");
        assert_eq!(file.read_at_nowait(&mut buf, 3).unwrap(), 5);
        assert_eq!(file.read_at_nowait(&mut buf, 8).unwrap(), 0);
        RealFiles.sync_dir(dir.path()).unwrap();
        assert_eq!(
            RealFiles.list(dir.path()).unwrap(),
            [Entry { name: "f".into(), is_dir: false, size_bytes: 8 }]
        );
        assert!(RealFiles.available_bytes(dir.path()).unwrap() > 0);
    }

    #[test]
    fn absent_files_are_made_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        for open in [Open::Read, Open::ReadWrite] {
            let error = RealFiles.open(&dir.path().join("f"), open).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_lock_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let held = RealFiles.lock(&path).unwrap();
        assert_eq!(RealFiles.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealFiles.lock(&path).unwrap();
    }
}
