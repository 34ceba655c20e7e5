//! What a provider streams: the decoders of the wire formats.

use chela_gateway::fuzzing::{self, OFFERED, Told};

use crate::Reach;

/// A stream of chat completions.
pub fn chat(input: &[u8]) -> Reach {
    stream(fuzzing::chat, input)
}

/// A stream of responses.
pub fn responses(input: &[u8]) -> Reach {
    stream(fuzzing::responses, input)
}

/// A stream of messages.
pub fn messages(input: &[u8]) -> Reach {
    stream(fuzzing::messages, input)
}

/// Bytes between two cuts.
const CUT: usize = 7;

/// However it is cut, a stream is read alike, and what it calls was offered.
fn stream(read: fn(&[&[u8]]) -> Result<Told, &'static str>, input: &[u8]) -> Reach {
    let whole = read(&[input]);
    let cut: Vec<&[u8]> = input.chunks(CUT).collect();
    assert_eq!(whole, read(&cut), "cut into pieces it is another stream");
    match whole {
        Err(_) => Reach::Refused,
        Ok(Told { pieces: 0, .. }) => Reach::Unread,
        Ok(Told { calls, .. }) => {
            for call in calls {
                assert!(OFFERED.contains(&call.name.as_str()), "{call:?} was not offered");
                assert!(!call.id.is_empty(), "{call:?} has no id");
            }
            Reach::Taken
        }
    }
}
