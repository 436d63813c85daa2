//! What a run keeps on disk for lack of memory, and how many bytes it wrote.
//!
//! Files are made by the process's disk manager, in its folder and within its bound; around each stands a counter of
//! the run. The rule: nothing here holds bytes or decides about space.

use std::io::{self, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;

/// The disk manager of a run: files of `disk`, whose bytes are added to `written`.
pub(crate) fn counted(disk: &Arc<DiskManager>, written: Arc<AtomicU64>) -> Result<DiskManager> {
    let files = Files { disk: Arc::clone(disk), written };
    DiskManagerBuilder::default().with_mode(DiskManagerMode::Custom(Arc::new(files))).build()
}

struct Files {
    disk: Arc<DiskManager>,
    written: Arc<AtomicU64>,
}

impl TempFileFactory for Files {
    fn create_temp_file(&self, description: &str) -> Result<Arc<dyn SpillFile>> {
        let file = self.disk.create_tmp_file(description)?;
        Ok(Arc::new(File { file, written: Arc::clone(&self.written) }))
    }
}

struct File {
    file: Arc<dyn SpillFile>,
    written: Arc<AtomicU64>,
}

impl SpillFile for File {
    fn path(&self) -> Option<&Path> {
        self.file.path()
    }

    fn size(&self) -> Option<u64> {
        self.file.size()
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        self.file.read_stream()
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let writer = self.file.open_writer()?;
        Ok(Box::new(Writer { writer, written: Arc::clone(&self.written) }))
    }
}

struct Writer {
    writer: Box<dyn SpillWriter>,
    written: Arc<AtomicU64>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.written.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        self.writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_each_run_are_counted_within_the_bound_of_all() {
        let builder = DiskManagerBuilder::default().with_max_temp_directory_size(10);
        let disk = Arc::new(builder.build().unwrap());
        let runs = [(); 2].map(|()| {
            let written = Arc::new(AtomicU64::new(0));
            (Arc::new(counted(&disk, Arc::clone(&written)).unwrap()), written)
        });
        let files: Vec<_> = runs.iter().map(|(disk, _)| disk.create_tmp_file("sort").unwrap()).collect();
        files[0].open_writer().unwrap().write_all(b"1234567").unwrap();
        assert!(files[1].open_writer().unwrap().write_all(b"1234").is_err(), "7 of 10 are taken");
        files[1].open_writer().unwrap().write_all(b"123").unwrap();
        let written = runs.each_ref().map(|(_, written)| written.load(Ordering::Relaxed));
        assert_eq!((written, disk.used_disk_space()), ([7, 3], 10));
        drop(files);
        assert_eq!(disk.used_disk_space(), 0);
    }
}
