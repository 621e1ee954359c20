//! A data file, on disk or in a store, plain or gzip-compressed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::store;
use crate::learning::data::DataFile;

/// The first bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How much more than its packed bytes a file may become when it is unpacked. Numbers in text
/// become ten times as much, and those that are mostly the same value thirty times; a thousand
/// times is the most that gzip can do, and made to do harm.
const MOST_GROWTH: u64 = 100;
/// A file that becomes no more than this may grow as it likes.
const FREE_BYTES: u64 = 64 << 20;

/// The unpacked content of a file.
pub(crate) struct Source(Box<dyn BufRead>);

impl Source {
    /// Opens `file`, packed or unpacked as it may be there, and looks at its first bytes to tell
    /// whether it has to be unpacked.
    pub(crate) fn open(file: &DataFile) -> io::Result<Self> {
        match file {
            DataFile::Path(path) => Self::unpacked(BufReader::with_capacity(1 << 16, open_file(path)?)),
            DataFile::Object(url) => Self::unpacked(store::open(url)?),
        }
    }

    /// `file` shows at least two bytes at first, if it has them.
    fn unpacked(mut file: impl BufRead + 'static) -> io::Result<Self> {
        let packed = file.fill_buf()?.starts_with(&GZIP_MAGIC);
        let input: Box<dyn BufRead> = if packed {
            let decoder = MultiGzDecoder::new(Counted { file, bytes: 0 });
            Box::new(BufReader::with_capacity(1 << 16, Unpacked { decoder, bytes: 0 }))
        } else {
            Box::new(file)
        };
        Ok(Self(input))
    }
}

/// A packed file, of which it is counted how much has been read.
struct Counted<R> {
    file: R,
    bytes: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(out)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.bytes += count as u64;
        self.file.consume(count);
    }
}

/// A file that is unpacked as it is read, and does not become any size.
struct Unpacked<R> {
    decoder: MultiGzDecoder<Counted<R>>,
    bytes: u64,
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(out)?;
        self.bytes += count as u64;
        let packed = self.decoder.get_ref().bytes;
        if self.bytes > FREE_BYTES.max(packed.saturating_mul(MOST_GROWTH)) {
            return Err(io::Error::other(format!(
                "{packed} packed bytes become more than {} when they are unpacked, which is more than {MOST_GROWTH} times as \
                 much; if that is meant, give the file unpacked",
                self.bytes - count as u64
            )));
        }
        Ok(count)
    }
}

/// Asks whether `file` is there and could be opened.
///
/// # Errors
///
/// What [`Source::open`] would say, and that a directory is no file.
pub(crate) fn look(file: &DataFile) -> io::Result<()> {
    match file {
        // Opened, and not only looked at: a file that may not be read is as good as none.
        DataFile::Path(path) if open_file(path)?.metadata()?.is_dir() => {
            Err(io::ErrorKind::IsADirectory.into())
        }
        DataFile::Path(_) => Ok(()),
        DataFile::Object(url) => store::look(url),
    }
}

/// Opens `path`. Where there is no such file, it may stand there packed, or unpacked, with `.gz`
/// after its name or without.
fn open_file(path: &Path) -> io::Result<File> {
    File::open(path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => File::open(repacked(path)).map_err(|_| error),
        _ => Err(error),
    })
}

/// The name of `path` with `.gz` after it, or without.
fn repacked(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|extension| extension == "gz") {
        return path.with_extension("");
    }
    let mut name = OsString::from(path);
    name.push(".gz");
    name.into()
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn content(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(bytes)?;
        let mut source = Source::open(&DataFile::Path(file.path().to_owned()))?;
        let mut out = Vec::new();
        source.read_to_end(&mut out)?;
        Ok(out)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_packed_and_several_members_read_alike() {
        assert_eq!(content(b"one\ntwo\n").unwrap(), b"one\ntwo\n");
        assert_eq!(content(&packed(b"one\ntwo\n")).unwrap(), b"one\ntwo\n");
        let members = [packed(b"one\n"), packed(b"two\n")].concat();
        assert_eq!(content(&members).unwrap(), b"one\ntwo\n");
        assert_eq!(content(b"").unwrap(), b"");
    }

    #[test]
    fn a_file_is_found_packed_or_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("u1.base"), "plain").unwrap();
        std::fs::write(at("u1.test.gz"), packed(b"packed")).unwrap();
        let read = |name: &str| io::read_to_string(Source::open(&DataFile::Path(at(name)))?);
        assert_eq!(read("u1.base.gz").unwrap(), "plain");
        assert_eq!(read("u1.test").unwrap(), "packed");
        assert_eq!(read("u2.base").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_small_file_does_not_become_a_huge_one() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        io::copy(&mut io::repeat(b'1').take(80 << 20), &mut encoder).expect("memory");
        let bomb = encoder.finish().expect("memory");
        assert!(bomb.len() < 1 << 20);
        let mut source = Source::unpacked(io::Cursor::new(bomb)).expect("it begins well");
        let mut buffer = [0; 1 << 16];
        let (mut seen, mut error) = (0, None);
        while error.is_none() && seen < 80 << 20 {
            match source.read(&mut buffer) {
                Ok(count) => seen += count,
                Err(found) => error = Some(found.to_string()),
            }
        }
        let error = error.expect("it is refused");
        assert!(seen as u64 <= FREE_BYTES && error.ends_with("give the file unpacked"), "{seen}: {error}");
    }

    #[test]
    fn a_damaged_gzip_file_is_an_error_not_a_panic() {
        let good = packed(&[b'x'; 1000]);
        assert!(content(&good[..good.len() - 9]).is_err());
        assert!(content(&GZIP_MAGIC).is_err());
    }
}
