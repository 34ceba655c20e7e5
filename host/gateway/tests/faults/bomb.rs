//! Compression bombs: two mebibytes that stand for more than two gibibytes, as gzip and as zlib's deflate.

/// What is said in so many bytes of zeros, a thousand times as much.
const BYTES: usize = 2 << 20;

/// Bits as deflate packs them: numbers from their lowest bit, codes from their highest.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        if self.count.is_multiple_of(8) {
            self.bytes.push(0);
        }
        *self.bytes.last_mut().unwrap() |= u8::from(bit) << (self.count % 8);
        self.count += 1;
    }

    fn number(&mut self, number: u32, bits: u32) {
        (0..bits).for_each(|at| self.bit((number >> at) & 1 == 1));
    }

    fn code(&mut self, code: &str) {
        code.chars().for_each(|digit| self.bit(digit == '1'));
    }
}

/// One block whose own codes give one bit to "258 bytes more" and one to "of the byte before": four of these are a byte of
/// zeros, so that zeros without end are its body.
fn block() -> Vec<u8> {
    // The codes of the lengths of codes, in the order that the format lays down: 18 (many zeros), 2 and 1 are used.
    let lengths = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2];
    let (zeros, one, two) = ("0", "10", "11");
    let mut bits = Bits::default();
    // The last block, with codes of its own: 286 of lengths and bytes, one of distances, 18 lengths.
    for (number, count) in [(1, 1), (2, 2), (286 - 257, 5), (0, 5), (18 - 4, 4)] {
        bits.number(number, count);
    }
    lengths.iter().for_each(|length| bits.number(*length, 3));
    let many = |bits: &mut Bits, count: u32| {
        bits.code(zeros);
        bits.number(count - 11, 7);
    };
    // The byte 0 and the end have two bits, "258 more" has one; 1 to 255 and 257 to 284 have none.
    bits.code(two);
    many(&mut bits, 138);
    many(&mut bits, 117);
    bits.code(two);
    many(&mut bits, 28);
    bits.code(one);
    // The only distance.
    bits.code(one);
    // One byte to be repeated.
    bits.code("10");
    bits.bytes.extend(std::iter::repeat_n(0, BYTES));
    bits.bytes
}

/// As `content-encoding: gzip` says it.
pub(crate) fn gzip() -> Vec<u8> {
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &block()].concat()
}

/// As `content-encoding: deflate` says it.
pub(crate) fn deflate() -> Vec<u8> {
    [&[0x78, 0x9c][..], &block()].concat()
}
