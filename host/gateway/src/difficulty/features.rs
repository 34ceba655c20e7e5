//! What a scorer sees of a request: its words and its shape. No list of hard words: what a word weighs is learned.

use chela_lexical::{Kind, TEXT_BYTES_MAX, grams, words};

use crate::{Call, Part, Role};

/// Which features these are; weights for others are refused.
pub(super) const VERSION: u32 = 2;
/// Buckets of words and pairs of words.
const BUCKETS: u16 = 1 << 12;
/// What is counted besides.
const SHAPE: usize = 9;
/// All of them.
pub const COUNT: usize = BUCKETS as usize + SHAPE;

/// What questions begin with, in the languages that [`chela_lexical::Language`] has lists for.
const ASKING: [&str; 22] = [
    "what", "how", "why", "when", "where", "who", "which", "can", "is", "do", "does", "was", "wie", "warum",
    "wieso", "wann", "wo", "wer", "welche", "welcher", "kann", "ist",
];
/// More common in code than in sentences.
const CODE: &str = "{}()[]<>=;_\\|&#$^~`";

/// The features of one request: number and value, numbers ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    pub(super) entries: Vec<(u16, f32)>,
    /// Bytes of what is to be answered.
    pub(super) length: usize,
}

impl Features {
    /// Of the texts of a conversation, of which the last is to be answered. Of a long one its beginning is read.
    pub fn of<'a>(system: Option<&str>, prompts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut last, mut bytes, mut count) = ("", 0_usize, 0_usize);
        for prompt in prompts {
            (last, bytes, count) = (prompt, bytes.saturating_add(prompt.len()), count + 1);
        }
        let read = beginning(last);
        let words = words(read).unwrap_or_default();
        let mut entries = grams(&words, BUCKETS);
        let asking = words.iter().filter(|word| word.kind == Kind::Word && ASKING.contains(&&*word.text));
        let signs = read.chars().count();
        let share = |is: fn(char) -> bool| part(read.chars().filter(|sign| is(*sign)).count(), signs);
        let shape: [f32; SHAPE] = [
            logarithm(last.len()) / 10.0,
            logarithm(bytes) / 14.0,
            logarithm(count) / 6.0,
            part(read.matches('?').count().min(4), 4),
            part(asking.count().min(4), 4),
            share(|sign| sign.is_ascii_digit()),
            share(|sign| CODE.contains(sign)),
            part(read.lines().filter(|line| is_item(line)).count(), read.lines().count()),
            logarithm(system.map_or(0, str::len)) / 14.0,
        ];
        entries.extend((BUCKETS..).zip(shape).filter(|(_, value)| *value != 0.0));
        Self { entries, length: last.len() }
    }

    /// Of a call; none if it has something that no word tells of: images, tools and what they said.
    pub(crate) fn of_call(call: &Call) -> Option<Self> {
        let is_text = |part: &Part| matches!(part, Part::Text(_));
        let is_read =
            call.tools.is_empty() && call.prompts.iter().flat_map(|prompt| &prompt.parts).all(is_text);
        // The person's words are to be answered, whoever was heard last.
        let before = call.prompts.iter().filter(|prompt| prompt.role == Role::Assistant);
        let asked = call.prompts.iter().filter(|prompt| prompt.role == Role::User);
        let texts = before.chain(asked).flat_map(|prompt| prompt.texts());
        is_read.then(|| Self::of(call.system.as_deref(), texts))
    }
}

/// Every value counts: the length must not depend on where a letter is cut.
fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

fn logarithm(count: usize) -> f32 {
    (count as f32).ln_1p()
}

fn part(count: usize, of: usize) -> f32 {
    if of == 0 { 0.0 } else { count as f32 / of as f32 }
}

/// A line of a list: `- milk`, `* milk`, `2. milk`, `2) milk`.
fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let rest = line.trim_start_matches(|sign: char| sign.is_ascii_digit());
    line.starts_with(['-', '*', '•']) || (rest.len() < line.len() && rest.starts_with(['.', ')']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::tests::{call, tool};
    use crate::{Image, Prompt};

    fn shape(text: &str) -> Vec<(u16, f32)> {
        let of = Features::of(None, [text]).entries;
        of.into_iter().filter(|(number, _)| *number >= BUCKETS).map(|(n, v)| (n - BUCKETS, v)).collect()
    }

    fn has(text: &str, number: u16) -> bool {
        shape(text).iter().any(|(one, _)| *one == number)
    }

    #[test]
    fn the_shape_of_a_text_is_seen() {
        for (text, number, is_there) in [
            ("Reset it", 3, false),
            ("Reset it?", 3, true),
            ("Why is it so", 4, true),
            ("Reset it", 4, false),
            ("Order 42", 5, true),
            ("let x = f(y);", 6, true),
            ("- milk\n- bread", 7, true),
            ("2. milk", 7, true),
            ("2 litres of milk", 7, false),
        ] {
            assert_eq!(has(text, number), is_there, "{text} {number}");
        }
    }

    #[test]
    fn values_are_finite_numbers_of_known_features() {
        for text in ["", "a", &"ä".repeat(TEXT_BYTES_MAX), "\u{0}\u{202e}", &"7 ".repeat(100_000)] {
            let features = Features::of(Some(text), [text, text]);
            assert!(features.entries.windows(2).all(|pair| pair[0].0 < pair[1].0));
            assert!(features.entries.iter().all(|(number, value)| {
                usize::from(*number) < COUNT && value.is_finite() && value.abs() < 4.0
            }));
        }
    }

    #[test]
    fn a_call_is_read_as_its_texts_are() {
        let asked = call("How long is it?");
        assert_eq!(Features::of_call(&asked).unwrap(), Features::of(None, ["How long is it?"]));
        let tools = Call { tools: vec![tool("look")], ..asked.clone() };
        assert_eq!(Features::of_call(&tools), None);
        let image = Part::Image(Image::from_address("https://a.example/b.png").unwrap());
        let seen = Call { prompts: vec![Prompt { role: Role::User, parts: vec![image] }], ..asked };
        assert_eq!(Features::of_call(&seen), None);
    }
}
