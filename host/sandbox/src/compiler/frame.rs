//! The words of the two processes. Each frame is a kind, a length and so many bytes; each length has a bound.

use super::Stage;
use crate::error::Refusal;
use crate::limits::{Limit, Limits};
use crate::log::{Line, cut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest frame other than components and artefacts.
pub(super) const WORDS_BYTES_MAX: u64 = 4 << 20;
/// Longest message of a guest or of the engine.
pub(super) const MESSAGE_BYTES_MAX: usize = 2_000;

/// What the child is to do. The component follows in a frame of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) plugin: String,
    pub(crate) version: String,
    /// What `config.json` answers.
    pub(crate) config: String,
    /// Whether `init` is run and kept.
    pub(crate) snapshot: bool,
    /// Of a call.
    pub(crate) limits: Limits,
    pub(crate) address_space_bytes: u64,
    pub(crate) cpu_seconds: u64,
    pub(crate) component_bytes: u64,
}

impl Job {
    /// The limits of `init`. Time and host calls are bounded by the process's own limits.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            deadline: Duration::MAX,
            host_calls: u32::MAX,
            input_bytes: usize::MAX,
            output_bytes: usize::MAX, // the snapshot reads whole memories through it
            instances: self.limits.instances.saturating_add(usize::from(self.snapshot)), // and makes an instance for it
            ..self.limits.clone()
        }
    }
}

/// Why the child refuses.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Verdict {
    Init(String),
    InitTrap(String),
    InitLimit(Limit, u64),
    InitHandles,
    Snapshot(String),
    Compile(String),
}

impl From<Verdict> for Refusal {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Init(message) => Self::Init { message: fit(&message) },
            Verdict::InitTrap(message) => Self::InitTrap { message: fit(&message) },
            Verdict::InitLimit(limit, bound) => Self::InitLimit { limit, bound },
            Verdict::InitHandles => Self::InitHandles,
            Verdict::Snapshot(message) => Self::Snapshot { message: fit(&message) },
            Verdict::Compile(message) => Self::Compile { message: fit(&message) },
        }
    }
}

/// As long as a message may be, and nothing in it that a terminal obeys: it is a guest's, or of a compiler that has read
/// a hostile guest.
fn fit(message: &str) -> String {
    cut(message, MESSAGE_BYTES_MAX).replace(|c: char| c.is_control() && c != '\n' && c != '\t', " ")
}

/// What comes from the child.
#[derive(Debug)]
pub(super) enum Frame {
    Stage(Stage),
    Line(Line),
    Refused(Verdict),
    Artefact(Vec<u8>),
}

const STAGE: u8 = 1;
const LINE: u8 = 2;
const REFUSED: u8 = 3;
const ARTEFACT: u8 = 4;
const JOB: u8 = 5;
const COMPONENT: u8 = 6;

fn json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(io::Error::other)
}

pub(super) fn broken(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn header(kind: u8, length: usize) -> [u8; 9] {
    let mut header = [kind; 9];
    if let Some(bytes) = header.last_chunk_mut::<8>() {
        *bytes = (length as u64).to_le_bytes();
    }
    header
}

fn bound(length: [u8; 8], bytes_max: u64) -> io::Result<u64> {
    let length = u64::from_le_bytes(length);
    if length > bytes_max {
        Err(broken(format!("a frame of {length} bytes, at most {bytes_max} allowed")))
    } else {
        Ok(length)
    }
}

/// What starts a child: the job, and the header of the component that is written next.
pub(super) fn head(job: &Job, component_bytes: usize) -> io::Result<Vec<u8>> {
    let words = json(job)?;
    Ok([&header(JOB, words.len()), words.as_slice(), &header(COMPONENT, component_bytes)].concat())
}

/// Writes a frame of the child.
pub(super) fn write(out: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let (kind, words) = match frame {
        Frame::Stage(stage) => (STAGE, json(stage)?),
        Frame::Line(line) => (LINE, json(line)?),
        Frame::Refused(verdict) => (REFUSED, json(verdict)?),
        Frame::Artefact(bytes) => {
            out.write_all(&header(ARTEFACT, bytes.len()))?;
            out.write_all(bytes)?;
            return out.flush();
        }
    };
    out.write_all(&header(kind, words.len()))?;
    out.write_all(&words)?;
    out.flush()
}

fn read_blocking(from: &mut impl Read, kind: u8, bytes_max: u64) -> io::Result<Vec<u8>> {
    let (mut found, mut length) = ([0; 1], [0; 8]);
    from.read_exact(&mut found)?;
    from.read_exact(&mut length)?;
    if found != [kind] {
        return Err(broken(format!("a frame of kind {found:?}, expected {kind}")));
    }
    let mut bytes = Vec::new();
    let length = bound(length, bytes_max)?;
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads the job, in the child.
pub(super) fn read_job(from: &mut impl Read) -> io::Result<Job> {
    parse(&read_blocking(from, JOB, WORDS_BYTES_MAX)?)
}

/// Reads the component, in the child, after its limits are set.
pub(super) fn read_component(from: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    read_blocking(from, COMPONENT, bytes)
}

/// Reads a frame of the child; none at the end of the stream.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    artefact_bytes_max: u64,
) -> io::Result<Option<Frame>> {
    let (mut kind, mut length) = ([0; 1], [0; 8]);
    if from.read(&mut kind).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length).await?;
    let [kind] = kind;
    let length = bound(length, if kind == ARTEFACT { artefact_bytes_max } else { WORDS_BYTES_MAX })?;
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != length {
        return Ok(None); // it died in the middle of a frame
    }
    Ok(Some(match kind {
        STAGE => Frame::Stage(parse(&bytes)?),
        LINE => Frame::Line(parse(&bytes)?),
        REFUSED => Frame::Refused(parse(&bytes)?),
        ARTEFACT => Frame::Artefact(bytes),
        other => return Err(broken(format!("a frame of the unknown kind {other}"))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A compiler that has read a hostile component says what that component likes.
    #[test]
    fn a_verdict_is_short_and_controls_no_terminal() {
        let said = format!("\u{1b}[2Jgone\nand more{}", "ä".repeat(MESSAGE_BYTES_MAX));
        let Refusal::Compile { message } = Refusal::from(Verdict::Compile(said)) else { panic!("another") };
        assert!(message.starts_with(" [2Jgone\nand more"), "{message}");
        assert!(message.len() <= MESSAGE_BYTES_MAX);
    }

    #[tokio::test]
    async fn frames_survive_the_pipe_within_their_bounds() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Frame::Stage(Stage::Init)).unwrap();
        write(&mut bytes, &Frame::Artefact(vec![7; 100])).unwrap();
        let mut pipe = bytes.as_slice();
        assert!(matches!(read(&mut pipe, 100).await.unwrap(), Some(Frame::Stage(Stage::Init))));
        assert!(
            matches!(read(&mut pipe, 100).await.unwrap(), Some(Frame::Artefact(code)) if code.len() == 100)
        );
        assert!(read(&mut pipe, 100).await.unwrap().is_none());

        let mut pipe = bytes.as_slice();
        read(&mut pipe, 99).await.unwrap();
        assert!(read(&mut pipe, 99).await.unwrap_err().to_string().contains("at most 99"));
        assert!(read(&mut &header(9, 0)[..], 1).await.unwrap_err().to_string().contains("unknown kind"));
        assert!(read(&mut bytes.get(..12).unwrap(), 100).await.unwrap().is_none(), "died in the middle");
    }
}
