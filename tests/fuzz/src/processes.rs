//! What other processes of this host say, once somebody has taken them over.

use chela_sandbox::Limits;
use chela_sandbox::Reason;
use chela_sandbox::fuzzing::{compiler as child, worker as jailed};

use crate::Reach;
use crate::oracle::tame;
use crate::stations::runtime;

/// Limits of a plugin that says little, so that bytes of a few hundred can be too many.
const SMALL: Limits = Limits { output_bytes: 256, log_lines: 4, log_bytes: 64, ..Limits::STANDARD };

/// What comes through the pipe of a worker that holds a plugin.
pub fn worker(said: &[u8]) -> Reach {
    let heard = runtime(|runtime| runtime.block_on(jailed::listened(said, &SMALL)));
    let heard = heard.expect("this machine has sockets");
    let calls = jailed::CALLS as usize;
    assert!(heard.said.len() + heard.failed.len() <= calls, "a call ends twice: {heard:?}");
    // Two: one question is answered, and the next breaks the protocol as soon as it is heard.
    assert!(heard.asked <= 2 * calls, "{heard:?}");
    let lines_max = (SMALL.log_lines as usize + 1) * calls;
    assert!(heard.lines <= lines_max, "{} lines", heard.lines);
    for reason in heard.failed.iter().flatten() {
        let is_guests_own = !matches!(reason, Reason::Refused(_) | Reason::Host(_) | Reason::Worker(_));
        assert!(is_guests_own, "a worker says what only the host knows: {reason}");
        tame("a failure", &reason.to_string());
    }
    for (_, said) in &heard.said {
        // Whatever kind it is of, it is read within its bounds or not at all.
        let _ = jailed::read::<Vec<Vec<String>>>(said, &SMALL);
        let _ = jailed::read::<Vec<u8>>(said, &SMALL);
    }
    match (heard.broken, heard.said.is_empty() && heard.failed.is_empty() && heard.asked == 0) {
        (_, false) => Reach::Taken,
        (Some(_), true) => Reach::Refused,
        (None, true) => Reach::Unread,
    }
}

/// What comes from the process that compiles.
pub fn compiler(said: &[u8]) -> Reach {
    let heard = runtime(|runtime| runtime.block_on(child::listened(said)));
    assert!(heard.stages <= 3, "stages go one way: {heard:?}");
    if let Some(refusal) = &heard.refused {
        tame("a refusal", &refusal.to_string().replace(['\n', '\t'], " "));
        return Reach::Taken;
    }
    match heard.artefact_bytes {
        Some(bytes) => {
            assert!(bytes as u64 <= child::ARTEFACT_BYTES_MAX, "an artefact of {bytes} bytes");
            Reach::Taken
        }
        None if heard.broken.is_some() => Reach::Refused,
        None => Reach::Unread,
    }
}
