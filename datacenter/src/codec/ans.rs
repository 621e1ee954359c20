//! Bytes coded by a table of their frequencies: asymmetric numeral systems (time-free).
//!
//! The adaptive range coder takes ten to twenty nanoseconds a value, as each decision waits for the
//! one before. In a payload of many values a table of frequencies costs little, and with it a
//! symbol is one multiplication (rANS: Duda, arXiv:1311.2540; the division by a frequency as a
//! multiplication is Giesen's). Symbols take turns on four states, which do not wait for each
//! other.
//!
//! ```text
//! states   = 4 times 4 bytes, little-endian: states[i % 4] yields symbol i
//! words    = 2 bytes each, little-endian, taken whenever a state falls below 2^15
//! ```
//!
//! The decoder ends with all states at 2^15, where the encoder began, and no word left: damage is
//! noticed.

use super::CodecError;
use super::arithmetic::{Decoder, Encoder, NumberModel};

/// Frequencies add up to two to this power.
const SCALE_BITS: u32 = 12;
const SCALE: u32 = 1 << SCALE_BITS;
/// States are in `[MIN_STATE, MIN_STATE << 16)` between symbols.
const MIN_STATE: u32 = 1 << 15;
/// How many states take turns.
const STATES: usize = 4;
/// What the states take at the beginning.
const STATES_LEN: usize = 4 * STATES;

/// How often each symbol comes, in 4096ths. At least two come, so that each leaves a state room to
/// grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frequencies([u16; 256]);

impl Frequencies {
    /// Those of `symbols`, of which there is at least one; what comes has at least a 4096th.
    pub(super) fn of(symbols: &[u8]) -> Self {
        let counts = count(symbols);
        let total = symbols.len() as u64;
        let mut frequencies = counts
            .map(|count| (u64::from(count) * u64::from(SCALE) / total).max(u64::from(count > 0)) as u16);
        if frequencies.iter().filter(|frequency| **frequency > 0).count() == 1 {
            let other = usize::from(frequencies[0] > 0);
            frequencies[other] = 1;
        }
        let sum: u32 = frequencies.iter().map(|frequency| u32::from(*frequency)).sum();
        // What rounding left over goes to the largest, where it matters least.
        let largest =
            |frequencies: &[u16; 256]| (0..256).max_by_key(|symbol| frequencies[*symbol]).unwrap_or(0);
        frequencies[largest(&frequencies)] += SCALE.saturating_sub(sum) as u16;
        for _ in SCALE..sum {
            frequencies[largest(&frequencies)] -= 1;
        }
        Self(frequencies)
    }

    pub(super) fn has(&self, symbol: u8) -> bool {
        self.0[usize::from(symbol)] > 0
    }

    /// Appends the last symbol that comes, and the frequencies up to it.
    pub(super) fn write(&self, encoder: &mut Encoder<'_>) {
        let last = self.0.iter().rposition(|frequency| *frequency > 0).unwrap_or(0);
        encoder.put_bits(last as u32, 8);
        let mut model = NumberModel::new();
        for frequency in &self.0[..=last] {
            model.put(encoder, u32::from(*frequency));
        }
    }

    pub(super) fn read(decoder: &mut Decoder<'_>) -> Result<Self, CodecError> {
        let last = decoder.take_bits(8) as usize;
        let mut frequencies = [0; 256];
        let mut model = NumberModel::new();
        let mut left = SCALE;
        for frequency in &mut frequencies[..=last] {
            let taken = model.take(decoder);
            if taken > left || taken == SCALE {
                return Err(CodecError::Frequencies);
            }
            left -= taken;
            *frequency = taken as u16;
        }
        if left == 0 { Ok(Self(frequencies)) } else { Err(CodecError::Frequencies) }
    }
}

/// How often each symbol comes. Equal neighbours would wait for each other's count, so there are
/// four.
fn count(symbols: &[u8]) -> [u32; 256] {
    let mut counts = [[0u32; 256]; 4];
    let (fours, rest) = symbols.as_chunks::<4>();
    for four in fours {
        for (counts, symbol) in counts.iter_mut().zip(four) {
            counts[usize::from(*symbol)] += 1;
        }
    }
    for symbol in rest {
        counts[0][usize::from(*symbol)] += 1;
    }
    std::array::from_fn(|symbol| counts.iter().map(|counts| counts[symbol]).sum())
}

/// How to append one symbol: `x / f * 4096 + x % f + start` without a division.
#[derive(Clone, Copy, Default)]
struct SymbolCode {
    /// From here on a state has no room.
    limit: u32,
    reciprocal: u32,
    shift: u32,
    bias: u32,
    /// 4096 less the frequency.
    complement: u32,
}

impl SymbolCode {
    /// Exact for all states, as they are below 2^31.
    fn new(start: u32, frequency: u32) -> Self {
        let limit = frequency << (31 - SCALE_BITS);
        let complement = SCALE - frequency;
        if frequency < 2 {
            // The reciprocal 2^32 does not fit; with the next smaller one the quotient is x - 1,
            // which the bias makes good.
            return Self { limit, reciprocal: u32::MAX, shift: 0, bias: start + SCALE - 1, complement };
        }
        let shift = 32 - (frequency - 1).leading_zeros();
        let reciprocal = ((1u64 << (shift + 31)).div_ceil(u64::from(frequency))) as u32;
        Self { limit, reciprocal, shift: shift - 1, bias: start, complement }
    }
}

/// Appends `symbols`, which have these frequencies. `words` is working memory.
pub(super) fn write(symbols: &[u8], frequencies: &Frequencies, words: &mut Vec<u16>, out: &mut Vec<u8>) {
    let mut start = 0;
    let codes = frequencies.0.map(|frequency| {
        let code =
            if frequency > 0 { SymbolCode::new(start, frequency.into()) } else { SymbolCode::default() };
        start += u32::from(frequency);
        code
    });
    // A symbol takes at most one word, and they are written from the end.
    words.resize(symbols.len() + 1, 0);
    let mut free = words.len();
    let mut states = [MIN_STATE; STATES];
    let mut put = |state: &mut u32, symbol: u8| {
        let code = codes[usize::from(symbol)];
        // Without a branch, which would be predicted badly: the word is written, and kept or not.
        let is_full = *state >= code.limit;
        words[free - 1] = *state as u16;
        free -= usize::from(is_full);
        let x = *state >> (u32::from(is_full) * 16);
        let quotient = ((u64::from(x) * u64::from(code.reciprocal)) >> 32) as u32 >> code.shift;
        *state = x + code.bias + quotient * code.complement;
    };
    let (fours, rest) = symbols.as_chunks::<STATES>();
    for (state, symbol) in states.iter_mut().zip(rest).rev() {
        put(state, *symbol);
    }
    for four in fours.iter().rev() {
        for (state, symbol) in states.iter_mut().zip(four).rev() {
            put(state, *symbol);
        }
    }
    out.extend(states.iter().flat_map(|state| state.to_le_bytes()));
    out.extend(words[free..].iter().flat_map(|word| word.to_le_bytes()));
}

/// Reads `symbols.len()` symbols from all of `bytes`.
pub(super) fn read(bytes: &[u8], frequencies: &Frequencies, symbols: &mut [u8]) -> Result<(), CodecError> {
    let truncated = CodecError::Truncated { count: symbols.len() as u64 };
    let (head, words) = bytes.split_at_checked(STATES_LEN).ok_or(truncated.clone())?;
    let (words, odd) = words.as_chunks::<2>();
    let mut states = [0; STATES];
    for (state, bytes) in states.iter_mut().zip(head.as_chunks().0) {
        *state = u32::from_le_bytes(*bytes);
        if !(MIN_STATE..MIN_STATE << 16).contains(state) {
            return Err(CodecError::Padding);
        }
    }
    // For each 4096th: its symbol, the frequency, and how many of the symbol's 4096ths are before
    // it.
    let mut slots = [0u32; SCALE as usize];
    let mut start = 0;
    for (symbol, &frequency) in frequencies.0.iter().enumerate() {
        for (before, slot) in slots[start..][..usize::from(frequency)].iter_mut().enumerate() {
            *slot = (symbol as u32) << 24 | u32::from(frequency) << 12 | before as u32;
        }
        start += usize::from(frequency);
    }
    let mut next = 0;
    let mut take = |state: &mut u32| {
        let slot = slots[(*state & (SCALE - 1)) as usize];
        let x = (slot >> 12 & 0xfff) * (*state >> SCALE_BITS) + (slot & 0xfff);
        // Without a branch here, too.
        let is_low = u32::from(x < MIN_STATE);
        let word = u16::from_le_bytes(words.get(next).copied().unwrap_or_default());
        next += is_low as usize;
        *state = x << (is_low * 16) | (u32::from(word) & is_low.wrapping_neg());
        (slot >> 24) as u8
    };
    let (fours, rest) = symbols.as_chunks_mut::<STATES>();
    for four in fours {
        for (state, symbol) in states.iter_mut().zip(four) {
            *symbol = take(state);
        }
    }
    for (state, symbol) in states.iter_mut().zip(rest) {
        *symbol = take(state);
    }
    if next > words.len() {
        return Err(truncated);
    }
    if next < words.len() || !odd.is_empty() {
        return Err(CodecError::Trailing { bytes: bytes.len() - STATES_LEN - 2 * next });
    }
    if states != [MIN_STATE; STATES] { Err(CodecError::Padding) } else { Ok(()) }
}
