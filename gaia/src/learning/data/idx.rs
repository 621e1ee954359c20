//! IDX, the format of MNIST: a big-endian header, then unsigned bytes.
//!
//! Images have the magic number `0x00000803` and three sizes (count, height, width), labels
//! `0x00000801` and one.

use std::io::{self, Read};

use super::classification::{Keep, Labelled, MAX_EXAMPLES};
use super::names::NameColumn;

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

/// The most pixels of an image: 2^24, an image of 4096 x 4096.
const MAX_PIXELS: u64 = 1 << 24;

/// Why a file is not usable IDX.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// The file cannot be read on, or its gzip stream is damaged.
    #[error("byte {byte}: cannot be read")]
    Io {
        /// Offset in the unpacked file.
        byte: u64,
        /// The cause.
        source: io::Error,
    },
    /// Not the kind of file it should be.
    #[error("byte 0: magic number {found:#010x}, only {allowed:#010x} ({what}) is allowed")]
    Magic {
        /// The number.
        found: u32,
        /// What it should be.
        allowed: u32,
        /// What such a file holds.
        what: &'static str,
    },
    /// A size in the header that nothing real has.
    #[error("byte {byte}: {found} {what}, 1 to {allowed} are allowed")]
    Size {
        /// Offset in the unpacked file.
        byte: u64,
        /// What is counted.
        what: &'static str,
        /// How many.
        found: u64,
        /// At most how many.
        allowed: u64,
    },
    /// The file ends early.
    #[error("byte {byte}: the file ends here, its header declares {declared} bytes")]
    Truncated {
        /// Size of the unpacked file.
        byte: u64,
        /// Size that the header declares.
        declared: u64,
    },
    /// The file goes on where it should end.
    #[error("byte {byte}: the file goes on where its header declares the end")]
    Trailing {
        /// Size that the header declares.
        byte: u64,
    },
}

/// Reads images, each as one row of `height * width` pixels scaled by 1/255; labels are left empty.
pub(crate) fn read_images(input: impl Read, keep: Keep<'_>) -> Result<Labelled, IdxError> {
    let mut reader = Reader { input, byte: 0, declared: 16 };
    reader.magic(IMAGES_MAGIC, "images of unsigned bytes")?;
    let count = reader.size("images", MAX_EXAMPLES as u64)?;
    let height = reader.size("rows of pixels", MAX_PIXELS)?;
    let width = reader.size("columns of pixels", MAX_PIXELS / height)?;
    let pixels = height * width;
    reader.declared += count * pixels;

    let scaled: [f32; 256] = std::array::from_fn(|byte| byte as f32 / 255.0);
    // One image is allocated at a time: the header's count is not to be trusted with more.
    let mut image = vec![0u8; pixels as usize];
    let mut file = Labelled { features: pixels as u32, ..Labelled::default() };
    for _ in 0..count {
        reader.fill(&mut image)?;
        file.push(keep, image.iter().enumerate().map(|(i, &byte)| (i as u32, scaled[usize::from(byte)])));
    }
    reader.end()?;
    Ok(file)
}

/// Reads labels.
pub(crate) fn read_labels(input: impl Read) -> Result<NameColumn, IdxError> {
    let mut reader = Reader { input, byte: 0, declared: 8 };
    reader.magic(LABELS_MAGIC, "labels of unsigned bytes")?;
    let count = reader.size("labels", MAX_EXAMPLES as u64)?;
    reader.declared += count;

    let mut labels = NameColumn::default();
    let mut chunk = [0u8; 4096];
    let mut left = count;
    while left > 0 {
        let part = &mut chunk[..left.min(4096) as usize];
        reader.fill(part)?;
        part.iter().for_each(|label| labels.push_number((*label).into()));
        left -= part.len() as u64;
    }
    reader.end()?;
    Ok(labels)
}

/// Reads exactly what the header declares, and knows where it is.
struct Reader<R> {
    input: R,
    byte: u64,
    declared: u64,
}

impl<R: Read> Reader<R> {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), IdxError> {
        let mut filled = 0;
        while filled < out.len() {
            match self.input.read(&mut out[filled..]) {
                Ok(0) => {
                    return Err(IdxError::Truncated { byte: self.byte, declared: self.declared });
                }
                Ok(count) => {
                    filled += count;
                    self.byte += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(IdxError::Io { byte: self.byte, source });
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u32, IdxError> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn magic(&mut self, allowed: u32, what: &'static str) -> Result<(), IdxError> {
        match self.number()? {
            found if found == allowed => Ok(()),
            found => Err(IdxError::Magic { found, allowed, what }),
        }
    }

    fn size(&mut self, what: &'static str, allowed: u64) -> Result<u64, IdxError> {
        let byte = self.byte;
        match u64::from(self.number()?) {
            found if (1..=allowed).contains(&found) => Ok(found),
            found => Err(IdxError::Size { byte, what, found, allowed }),
        }
    }

    fn end(&mut self) -> Result<(), IdxError> {
        match self.fill(&mut [0]) {
            Err(IdxError::Truncated { .. }) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => Err(IdxError::Trailing { byte: self.declared }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &[u32], body: &[u8]) -> Vec<u8> {
        header.iter().flat_map(|n| n.to_be_bytes()).chain(body.iter().copied()).collect()
    }

    #[test]
    fn images_and_labels_are_read() {
        let images = read_images(&file(&[0x803, 2, 1, 3], &[0, 255, 51, 0, 0, 0])[..], Keep::All).unwrap();
        assert_eq!((images.features, images.rows.len()), (3, 2));
        assert_eq!(images.rows.row(0).features, [1, 2]);
        assert_eq!(images.rows.row(0).values, [1.0, 0.2]);
        assert!(images.rows.row(1).features.is_empty());
        let labels = file(&[0x801, 5000], &[7; 5000]);
        let labels = read_labels(&labels[..]).unwrap();
        assert_eq!((labels.len(), labels.name(4999)), (5000, Some(7.into())));
    }

    #[test]
    fn every_truncation_is_told_by_byte() {
        let whole = file(&[0x803, 2, 1, 3], &[1; 6]);
        for length in 0..whole.len() {
            match read_images(&whole[..length], Keep::All) {
                Err(IdxError::Truncated { byte, .. }) => assert_eq!(byte, length as u64),
                other => panic!("{length} bytes: {other:?}"),
            }
        }
    }

    #[test]
    fn what_the_header_claims_is_checked_before_it_costs_memory() {
        let size = |header: &[u32]| match read_images(&file(header, &[])[..], Keep::All) {
            Err(IdxError::Size { byte, .. }) => byte,
            other => panic!("{header:?}: {other:?}"),
        };
        assert_eq!(size(&[0x803, 0, 28, 28]), 4);
        assert_eq!(size(&[0x803, 1, u32::MAX, u32::MAX]), 8);
        assert_eq!(size(&[0x803, 1, 1 << 14, 1 << 14]), 12);
        let huge = file(&[0x803, u32::MAX, 4096, 4096], &[0; 100]);
        assert!(matches!(read_images(&huge[..], Keep::All), Err(IdxError::Truncated { byte: 116, .. })));
        let huge = file(&[0x801, u32::MAX], &[0; 100]);
        assert!(matches!(read_labels(&huge[..]), Err(IdxError::Truncated { byte: 108, .. })));
    }

    #[test]
    fn other_files_and_trailing_bytes_are_refused() {
        assert!(matches!(
            read_images(&file(&[0x801, 1], &[1])[..], Keep::All),
            Err(IdxError::Magic { found: 0x801, .. })
        ));
        assert!(matches!(read_labels(&b"label,pixel0"[..]), Err(IdxError::Magic { .. })));
        let long = file(&[0x801, 1], &[1, 2]);
        assert!(matches!(read_labels(&long[..]), Err(IdxError::Trailing { byte: 9 })));
    }
}
