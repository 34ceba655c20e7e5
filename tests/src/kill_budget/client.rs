//! One request of a client over a connection of its own, and what came of it.

use std::io;
use std::net::SocketAddr;

use chela_types::Money;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::world::{REFUSAL, instructions, key, question};
use crate::wait::PATIENCE;

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A tier, for a whole answer.
    Whole,
    /// A tier, for a stream.
    Streamed,
    /// The same, and it hangs up after the first words.
    Leaving,
    /// An agent: a turn, which is paid by rows of its own.
    Turn,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An answer; of a whole one it is told what it cost.
    Answered(Option<Money>),
    /// The client hung up.
    Left,
    /// The budget had no room.
    Refused,
    /// No provider answered, or one broke off.
    Failed,
    /// The host went away.
    Gone,
}

/// A request.
pub(super) struct Request {
    pub(super) host: SocketAddr,
    pub(super) round: u32,
    pub(super) manner: Manner,
    pub(super) marker: String,
    /// That are to be repeated.
    pub(super) words: usize,
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        let (key, text) = (key(self.round), question(&self.marker, self.words));
        let is_stream = matches!(self.manner, Manner::Streamed | Manner::Leaving);
        let model = match self.manner {
            Manner::Turn => format!("agent:a{}", self.round),
            _ => "fast".to_owned(),
        };
        let messages = json!([
            { "role": "system", "content": instructions() },
            { "role": "user", "content": text },
        ]);
        let body = json!({ "model": model, "stream": is_stream, "messages": messages }).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: chela\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (head + &body).into_bytes()
    }

    /// Asks. `None` if nobody is there to be asked.
    pub(super) async fn ask(&self) -> Option<Heard> {
        let mut stream = TcpStream::connect(self.host).await.ok()?;
        let heard = timeout(PATIENCE, self.heard(&mut stream)).await.expect("an answer in time");
        Some(heard.unwrap_or(Heard::Gone))
    }

    async fn heard(&self, stream: &mut TcpStream) -> io::Result<Heard> {
        stream.write_all(&self.bytes()).await?;
        let (mut text, mut buffer) = (Vec::new(), [0; 4_096]);
        loop {
            let count = stream.read(&mut buffer).await?;
            text.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let said = String::from_utf8_lossy(&text);
            if self.manner == Manner::Leaving && said.contains("You said") {
                return Ok(Heard::Left);
            }
            if count == 0 {
                return Ok(self.read(&said));
            }
        }
    }

    fn read(&self, said: &str) -> Heard {
        let Some((head, body)) = said.split_once("\r\n\r\n") else { return Heard::Gone };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0_u16);
        let is_streamed = head.contains("text/event-stream");
        match status {
            200 if body.contains(REFUSAL) => Heard::Refused,
            200 if is_streamed && body.contains("[DONE]") => Heard::Answered(None),
            200 if is_streamed && body.contains("\"error\"") => Heard::Failed,
            200 if !is_streamed && serde_json::from_str::<Value>(body).is_ok() => Heard::Answered(cost(head)),
            200 => Heard::Gone,
            429 if body.contains("insufficient_quota") => Heard::Refused,
            502 | 503 => Heard::Failed,
            _ => panic!("{status} to {:?} of {}: {body}", self.manner, self.marker),
        }
    }
}

fn cost(head: &str) -> Option<Money> {
    let line = head.lines().find_map(|line| line.strip_prefix("x-chela-cost: "))?;
    Some(Money::parse_dollars(line.trim()).expect("dollars"))
}
