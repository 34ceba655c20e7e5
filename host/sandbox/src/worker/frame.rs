//! The words between the host and a worker. A frame is a length, a kind, a call and so many bytes; each length has a
//! bound, and what a worker sends is read as if an attacker had written it.

use crate::error::Reason;
use crate::limits::{Limit, Limits};
use crate::log::Line;
use crate::manifest::PluginKind;
use chela_types::Millis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

/// Bytes of a frame before its body: four of length, one of kind, eight of the call.
pub(super) const HEAD_BYTES: usize = 13;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Which call it is about; 0 where it is about none.
    pub(super) call: u64,
    pub(super) body: Vec<u8>,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// To a worker, the first: what it is to hold.
    Load = 1,
    /// To a worker, the second: the machine code.
    Code = 2,
    /// To a worker: a call begins. [`Begin`], then what is asked.
    Call = 3,
    /// To a worker: what the host made of a host call. The virtual time, then the answer.
    Told = 4,
    /// To a worker: nobody waits for the call any more.
    Cancel = 5,
    /// From a worker: it is jailed. To one that waits for its plugin: is it still there?
    Up = 6,
    /// From a worker: it holds the plugin.
    Ready = 7,
    /// From a worker: it cannot hold it, and why.
    Refused = 8,
    /// From a worker: the guest asks something of the host.
    Asked = 9,
    /// From a worker: the call has ended well. Log lines, then what the guest said.
    Said = 10,
    /// From a worker: the call has ended. [`Failed`].
    Failed = 11,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Load,
        Self::Code,
        Self::Call,
        Self::Told,
        Self::Cancel,
        Self::Up,
        Self::Ready,
        Self::Refused,
        Self::Asked,
        Self::Said,
        Self::Failed,
    ];

    fn of(byte: u8) -> io::Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| *kind as u8 == byte)
            .ok_or_else(|| broken("a frame of an unknown kind"))
    }
}

/// What a worker is to hold. The machine code follows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Loading {
    pub(crate) plugin: String,
    pub(crate) version: String,
    pub(crate) kind: PluginKind,
    /// The text of it.
    pub(crate) manifest: String,
    pub(crate) config: String,
    pub(crate) limits: Limits,
    /// Bytes of writable memory of the whole process.
    pub(crate) data_bytes_max: u64,
    pub(crate) code_bytes: u64,
}

/// How a call begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) started: Millis,
    pub(crate) seed: [u8; 32],
    pub(crate) deadline: Duration,
    pub(crate) patience: u32,
}

/// How a call ended that did not end well. The plugin's own fault, always: the host knows its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) lines: Vec<Line>,
    pub(super) why: Failure,
}

/// Why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    Trap { short: String, message: String },
    OutOfTime,
    Limit(Limit, u64),
}

impl Failure {
    /// What the host makes of it; `None`: whose time it was, the host knows. The words are a guest's, or an attacker's.
    pub(crate) fn reason(self) -> Option<Reason> {
        Some(match self {
            Self::Trap { short, message } => Reason::trap(&short, &message),
            Self::OutOfTime => return None,
            // The host's own limits are not a worker's to report.
            Self::Limit(Limit::Pool, _) => Reason::trap("the worker has no place for another call", ""),
            Self::Limit(limit, bound) => Reason::Limit { limit, bound },
        })
    }
}

/// What breaks the protocol.
pub(super) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A value as the other process reads it.
pub(super) fn encoded<T: Serialize + ?Sized>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

/// A value that is the whole of a body.
pub(super) fn decoded<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(broken("a frame with something behind its end")),
        Err(error) => Err(broken(&error.to_string())),
    }
}

/// A value, and what follows it.
pub(super) fn split<T: DeserializeOwned>(body: &[u8]) -> io::Result<(T, &[u8])> {
    postcard::take_from_bytes(body).map_err(|error| broken(&error.to_string()))
}

/// A frame as bytes, its body in parts.
pub(super) fn put(to: &mut Vec<u8>, (kind, call): (Kind, u64), parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).map_err(|_| broken("a frame of more than 4 GiB"))?;
    to.extend_from_slice(&length.to_le_bytes());
    to.push(kind as u8);
    to.extend_from_slice(&call.to_le_bytes());
    parts.iter().for_each(|part| to.extend_from_slice(part));
    Ok(())
}

/// Takes the first frame out of what has come; `None` if more must come first.
pub(super) fn take(from: &mut Vec<u8>, body_bytes_max: usize) -> io::Result<Option<Frame>> {
    let Some((head, rest)) = from.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [a, b, c, d, kind, call @ ..] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > body_bytes_max {
        return Err(broken(&format!("a frame of {length} bytes, at most {body_bytes_max} allowed")));
    }
    let kind = Kind::of(kind)?;
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let frame = Frame { kind, call: u64::from_le_bytes(call), body: body.to_vec() };
    from.drain(..HEAD_BYTES + length);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: Kind, call: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, (kind, call), &[body]).unwrap();
        bytes
    }

    #[test]
    fn frames_come_whole_and_in_order_however_they_are_cut() {
        let whole = [one(Kind::Asked, 7, b"abc"), one(Kind::Cancel, u64::MAX, b"")].concat();
        for cut in 0..=whole.len() {
            let (first, second) = whole.split_at(cut);
            let (mut buffer, mut seen) = (first.to_vec(), Vec::new());
            while let Some(frame) = take(&mut buffer, 3).unwrap() {
                seen.push(frame);
            }
            buffer.extend_from_slice(second);
            while let Some(frame) = take(&mut buffer, 3).unwrap() {
                seen.push(frame);
            }
            let frame = |kind, call, body: &[u8]| Frame { kind, call, body: body.to_vec() };
            assert_eq!(seen, [frame(Kind::Asked, 7, b"abc"), frame(Kind::Cancel, u64::MAX, b"")]);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_frame_over_its_bound_is_refused_before_it_has_come() {
        let mut head = one(Kind::Said, 1, &[0; 4]);
        head.truncate(HEAD_BYTES);
        assert!(take(&mut head, 3).unwrap_err().to_string().contains("at most 3"));
        assert!(take(&mut head, 4).unwrap().is_none());
    }

    #[test]
    fn what_no_frame_is_is_refused() {
        let mut unknown = one(Kind::Said, 1, b"");
        unknown[4] = 99;
        assert!(take(&mut unknown, 9).is_err());
        assert!(decoded::<u8>(&[1, 2]).is_err(), "something behind the end");
        assert!(decoded::<String>(&[200]).is_err(), "cut off");
    }
}
