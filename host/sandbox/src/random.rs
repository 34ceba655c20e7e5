//! Randomness of one call, from the seed that the journal keeps: a replay draws the same bytes.
//!
//! The stream is blake3's extendable output, and not a generator of a crate that may change its stream with a
//! release: a turn of last year must replay under the host of next year.

use blake3::OutputReader;

/// Bytes drawn from a seed, one stream for each purpose.
#[derive(Debug)]
pub(crate) struct Randomness {
    secure: OutputReader,
    insecure: OutputReader,
    seed: OutputReader,
}

impl Randomness {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        let stream = |purpose: &str| blake3::Hasher::new_derive_key(purpose).update(seed).finalize_xof();
        Self {
            secure: stream("chela 2026 plugin randomness"),
            insecure: stream("chela 2026 plugin insecure randomness"),
            seed: stream("chela 2026 plugin hash seed"),
        }
    }

    pub(crate) fn secure(&mut self, bytes: &mut [u8]) {
        self.secure.fill(bytes);
    }

    pub(crate) fn insecure(&mut self, bytes: &mut [u8]) {
        self.insecure.fill(bytes);
    }

    /// The same pair at each asking, as `wasi:random/insecure-seed` wants it.
    pub(crate) fn hash_seed(&self) -> (u64, u64) {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        let mut stream = self.seed.clone();
        stream.fill(&mut first);
        stream.fill(&mut second);
        (u64::from_le_bytes(first), u64::from_le_bytes(second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_stream() {
        let draw = |seed: u8| {
            let mut random = Randomness::from_seed(&[seed; 32]);
            let mut bytes = [0; 24];
            random.secure(&mut bytes);
            (bytes, random.hash_seed())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    /// A change here breaks the replay of every turn that was ever recorded.
    #[test]
    fn the_stream_is_frozen() {
        let mut bytes = [0; 8];
        Randomness::from_seed(&[7; 32]).secure(&mut bytes);
        assert_eq!(hex::encode(bytes), "10a64991a1814368");
    }
}
