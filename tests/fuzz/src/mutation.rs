//! Mutations of kept inputs, the same for the same seed: what the smoke run of the tests does where there is no libFuzzer.

/// Longest input that a mutation makes.
const BYTES_MAX: usize = 64 << 10;
/// Mutations of one input, one upon the other.
const STEPS_MAX: u64 = 6;
/// Numbers at which something often changes: bounds of bytes, of lengths, of what postcard and wasm write for them.
const NUMBERS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 62,
    u64::MAX - 1,
    u64::MAX,
];

/// Random numbers from a seed (SplitMix64), and what they do to bytes.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// Another one for each name.
    pub fn new(seed: u64, name: &str) -> Self {
        let state =
            name.bytes().fold(seed, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        Self { state }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or_default()
    }

    /// A place between two bytes.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    /// A part of some bytes, short mostly.
    fn part(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(bytes);
        let longest = (bytes.len() - start).min(1 << self.below(12));
        start..start + self.below(longest + 1)
    }

    /// One of the inputs, changed.
    pub fn mutated(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.next() % STEPS_MAX {
            self.step(&mut bytes, inputs);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn step(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        match self.below(9) {
            0 => {
                let at = self.below(bytes.len());
                let bit = 1 << self.below(8);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
            1 => {
                let (at, value) = (self.below(bytes.len()), self.next().to_le_bytes()[0]);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value);
            }
            2 => drop(bytes.drain(self.part(bytes))),
            3 => {
                let at = self.place(bytes);
                bytes.truncate(at);
            }
            4 => {
                let (part, at) = (self.part(bytes), self.place(bytes));
                let part = bytes[part].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let other = &inputs[self.below(inputs.len())];
                let part = other[self.part(other)].to_vec();
                let at = self.part(bytes);
                bytes.splice(at, part);
            }
            6 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let at = self.place(bytes);
                let width = 1 << self.below(4);
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, number.to_le_bytes().into_iter().take(width));
            }
            7 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let at = self.place(bytes);
                let end = (at + self.below(3)).min(bytes.len());
                bytes.splice(at..end, varint(number));
            }
            _ => {
                let (at, count) = (self.place(bytes), 1 << self.below(10));
                let value = self.next().to_le_bytes()[0];
                bytes.splice(at..at, std::iter::repeat_n(value, count));
            }
        }
    }
}

/// Seven bits in each byte, the lowest first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_others() {
        let inputs = [b"one input".to_vec(), Vec::new()];
        let made = |seed, name| {
            let mut mutator = Mutator::new(seed, name);
            (0..200).map(|_| mutator.mutated(&inputs)).collect::<Vec<_>>()
        };
        assert_eq!(made(1, "a"), made(1, "a"));
        assert_ne!(made(1, "a"), made(2, "a"));
        assert_ne!(made(1, "a"), made(1, "b"));
        assert!(made(1, "a").iter().filter(|bytes| **bytes != inputs[0]).count() > 150);
        assert!(made(1, "a").iter().all(|bytes| bytes.len() <= BYTES_MAX));
    }

    #[test]
    fn a_number_is_written_as_it_is_read() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(300), [0xac, 2]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }
}
