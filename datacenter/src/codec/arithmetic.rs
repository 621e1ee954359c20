//! An adaptive binary range coder: decisions at the cost of their surprise (time-free).
//!
//! Signs and small numbers carry a bit or two, often less than one; whole bits a symbol, as Rice
//! and Huffman codes take them, waste a third of that. A range coder spends fractions of bits, and
//! with probabilities that follow what has been coded, no table has to be sent first, which pays
//! off in payloads of a few values.
//!
//! The coder is that of LZMA (Martin 1979; Pavlov): a 32-bit range is divided in proportion to the
//! probability of a decision, and a byte leaves whenever the range falls below 2^24. Two things
//! differ. A carry goes straight into the bytes that are already written, and the end takes only as
//! many bytes as tell the last range from its neighbours (at most two, LZMA's takes five); behind
//! the end a decoder reads zeros.

use super::CodecError;

/// Bits of a probability in its arithmetic with the range.
const PROBABILITY_BITS: u32 = 12;
/// The range is at least this between decisions, so that a byte of it can leave.
const MIN_RANGE: u32 = 1 << 24;
/// How many bits that are as likely as not are coded at once: with eight the range keeps 16 bits.
const MAX_BITS_AT_ONCE: u32 = 8;
/// How many bytes a decoder is ahead of the encoder's last whole byte.
const LOOKAHEAD_BYTES: usize = 4;
/// How many bytes end a stream at most: a range of 2^24 holds a multiple of 2^16.
const MAX_END_BYTES: usize = 2;

/// The probability that a decision is `false`, as its past suggests.
///
/// It begins as about the mean of what was seen, so that ten values already profit, and goes on as
/// a moving average.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probability {
    /// In 65536ths; stays within 63 of both ends, as smaller steps than one are not taken.
    of_false: u16,
    /// How many decisions there have been, up to [`Self::SETTLED`].
    seen: u8,
}

impl Probability {
    /// As many decisions until the rate no longer falls.
    const SETTLED: u8 = 62;

    pub(super) const EVEN: Self = Self { of_false: 1 << 15, seen: 0 };

    /// The part of `range` that belongs to `false`; neither part is empty.
    fn split(self, range: u32) -> u32 {
        (range >> PROBABILITY_BITS) * (u32::from(self.of_false) >> (16 - PROBABILITY_BITS))
    }

    fn learn(&mut self, decision: bool) {
        // The weight of a decision is a half, and halves when the 2nd, 6th, 14th, 30th and 62nd is
        // behind.
        let rate = (u32::from(self.seen) + 2).ilog2().min(6);
        self.seen += u8::from(self.seen < Self::SETTLED);
        if decision {
            self.of_false -= self.of_false >> rate;
        } else {
            self.of_false += (((1 << 16) - u32::from(self.of_false)) >> rate) as u16;
        }
    }
}

/// Appends decisions to a payload.
pub(super) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    /// Below the range, which begins here; bit 32 is a carry that is still to be added to the bytes
    /// written.
    low: u64,
    range: u32,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, low: 0, range: u32::MAX }
    }

    /// Appends a decision, and lets `probability` learn of it.
    #[inline]
    pub(super) fn put(&mut self, probability: &mut Probability, decision: bool) {
        let split = probability.split(self.range);
        probability.learn(decision);
        if decision {
            self.low += u64::from(split);
            self.range -= split;
        } else {
            self.range = split;
        }
        self.normalize();
    }

    /// Appends the low `count` bits of `value`, highest first, each at the cost of a bit.
    pub(super) fn put_bits(&mut self, value: u32, mut count: u32) {
        while count > 0 {
            let taken = count.min(MAX_BITS_AT_ONCE);
            count -= taken;
            self.range >>= taken;
            self.low += u64::from(value >> count & ((1 << taken) - 1)) * u64::from(self.range);
            self.normalize();
        }
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) {
        let end = self.low + u64::from(self.range);
        for bytes in 0..=MAX_END_BYTES {
            let free = (1u64 << (32 - 8 * bytes)) - 1;
            let value = (self.low + free) & !free;
            if value < end {
                self.low = value;
                for _ in 0..bytes {
                    self.shift();
                }
                // Without any byte the value can still be a carry.
                self.carry();
                return;
            }
        }
        unreachable!("a range of at least 2^24 holds a multiple of 2^16");
    }

    fn normalize(&mut self) {
        while self.range < MIN_RANGE {
            self.range <<= 8;
            self.shift();
        }
    }

    fn shift(&mut self) {
        self.carry();
        self.out.push((self.low >> 24) as u8);
        self.low = (self.low << 8) & 0xffff_ffff;
    }

    /// Adds the carry to what is written. It ends within this stream, whose value stays below one.
    fn carry(&mut self) {
        if self.low > 0xffff_ffff {
            self.low &= 0xffff_ffff;
            for byte in self.out.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
    }
}

/// Takes decisions from the rest of a payload.
///
/// Any bytes are decisions of some kind. Whoever decodes bounds how many there are, and asks at the
/// end whether they were this stream ([`Self::finish`]).
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    /// How many bytes were taken, counting zeros behind the end.
    position: usize,
    /// Where the encoded value lies within the range.
    offset: u32,
    range: u32,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { bytes, position: 0, offset: 0, range: u32::MAX };
        for _ in 0..LOOKAHEAD_BYTES {
            decoder.shift();
        }
        decoder
    }

    /// Takes a decision, and lets `probability` learn of it.
    #[inline]
    pub(super) fn take(&mut self, probability: &mut Probability) -> bool {
        let split = probability.split(self.range);
        let decision = self.offset >= split;
        probability.learn(decision);
        if decision {
            self.offset -= split;
            self.range -= split;
        } else {
            self.range = split;
        }
        self.normalize();
        decision
    }

    /// Takes a number of `count` bits.
    pub(super) fn take_bits(&mut self, mut count: u32) -> u32 {
        let mut value = 0;
        while count > 0 {
            let taken = count.min(MAX_BITS_AT_ONCE);
            count -= taken;
            self.range >>= taken;
            // Only damage gives more: an encoder leaves out what the shift has rounded away.
            let bits = (self.offset / self.range).min((1 << taken) - 1);
            self.offset -= bits * self.range;
            value = value << taken | bits;
            self.normalize();
        }
        value
    }

    /// Whether more was taken than there is: the stream is cut off, or its decisions are not those
    /// of an encoder.
    pub(super) fn is_exhausted(&self) -> bool {
        self.position > self.bytes.len() + LOOKAHEAD_BYTES
    }

    /// That the stream ends where the payload does, which may be padded with zeros up to
    /// `padded_len` bytes.
    pub(super) fn finish(self, padded_len: usize, count: u32) -> Result<(), CodecError> {
        if self.is_exhausted() {
            return Err(CodecError::Truncated { count: count.into() });
        }
        let longest = self.position - LOOKAHEAD_BYTES + MAX_END_BYTES;
        match self.bytes.get(longest..) {
            None | Some([]) => Ok(()),
            Some(rest) if self.bytes.len() > padded_len => Err(CodecError::Trailing { bytes: rest.len() }),
            Some(rest) if rest.iter().any(|byte| *byte != 0) => Err(CodecError::Padding),
            Some(_) => Ok(()),
        }
    }

    fn normalize(&mut self) {
        while self.range < MIN_RANGE {
            self.range <<= 8;
            self.shift();
        }
    }

    fn shift(&mut self) {
        let byte = self.bytes.get(self.position).copied().unwrap_or(0);
        self.position += 1;
        self.offset = self.offset << 8 | u32::from(byte);
    }
}

/// How many bits below the highest one follow probabilities of their own; those after them are near
/// to even.
const TREE_BITS: u32 = 3;
/// How many bits a number of 32 bits has below its highest one.
const MAX_LENGTH: usize = 31;

/// Codes natural numbers of an unknown distribution: small ones exactly as often as they come,
/// large ones by magnitude.
///
/// A number `n` is the Elias-gamma code of `n + 1` in decisions: how many bits it has, in unary,
/// each with a probability of its own; then the bits below the highest, the first three in a tree
/// of probabilities for each length, the others as they are. Up to 14 each number thus has its own
/// probability, as in a table of frequencies.
#[derive(Clone, Debug)]
pub(super) struct NumberModel {
    lengths: [Probability; MAX_LENGTH],
    trees: [[Probability; 1 << TREE_BITS]; MAX_LENGTH + 1],
}

impl NumberModel {
    pub(super) const fn new() -> Self {
        Self {
            lengths: [Probability::EVEN; MAX_LENGTH],
            trees: [[Probability::EVEN; 1 << TREE_BITS]; MAX_LENGTH + 1],
        }
    }

    /// Appends `number`, which is below `u32::MAX`.
    #[inline]
    pub(super) fn put(&mut self, encoder: &mut Encoder<'_>, number: u32) {
        let number = number + 1;
        let length = number.ilog2();
        for probability in &mut self.lengths[..length as usize] {
            encoder.put(probability, true);
        }
        if let Some(probability) = self.lengths.get_mut(length as usize) {
            encoder.put(probability, false);
        }
        let tree = &mut self.trees[length as usize];
        let modelled = length.min(TREE_BITS);
        let mut node = 1;
        for position in (length - modelled..length).rev() {
            let bit = number >> position & 1;
            encoder.put(&mut tree[node], bit == 1);
            node = node << 1 | bit as usize;
        }
        encoder.put_bits(number, length - modelled);
    }

    /// Takes a number. Every sequence of decisions is one.
    #[inline]
    pub(super) fn take(&mut self, decoder: &mut Decoder<'_>) -> u32 {
        let mut length = 0u32;
        while let Some(probability) = self.lengths.get_mut(length as usize)
            && decoder.take(probability)
        {
            length += 1;
        }
        let tree = &mut self.trees[length as usize];
        let modelled = length.min(TREE_BITS);
        let mut node = 1;
        for _ in 0..modelled {
            node = node << 1 | usize::from(decoder.take(&mut tree[node]));
        }
        let rest = length - modelled;
        ((node as u32) << rest | decoder.take_bits(rest)) - 1
    }
}
