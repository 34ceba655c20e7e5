//! One attempt at one model, from the request to its last piece.

use std::sync::Arc;
use std::time::Duration;

use chela_types::{Finish, Tokens, Usage};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::calls::Calls;
use crate::plan::Link;
use crate::provider::{Ask, Piece, Pieces, Sent, Trouble};
use crate::speed::{Probe, Speed};
use crate::{Call, Chunk, Kind, Rate, ToolDelta};

/// Longest text of an answer: 1 MiB. A provider that goes on beyond its own output limit is cut off.
/// Its tool calls may have as much besides.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;
/// No token has more bytes than this in any vocabulary that is known. An answer with more than this for each token that
/// was reserved has more tokens.
const TOKEN_BYTES_MAX: u64 = 128;
/// A count that is no number stands for the largest.
const NO_COUNT: Tokens = Tokens(u64::MAX);
/// An answer that says that it called tools, and did not.
const NO_CALLS: &str = "it calls no tool and says that it does";

/// An attempt under way.
pub(crate) struct Opened {
    /// What it has said.
    pub(crate) text: String,
    /// The tools that it has called.
    pub(crate) calls: Calls,
    rest: Pieces,
    /// Nothing more comes.
    is_over: bool,
    usage: Option<Usage>,
    pub(crate) finish: Option<Finish>,
    pub(crate) started: Instant,
    pub(crate) first_token: Instant,
    /// When it must have come to its end.
    until: Instant,
    speed: Speed,
    room: Room,
}

/// What is reserved for an answer, and how far it has come.
struct Room {
    output: Tokens,
    bytes: u64,
    /// The provider itself counts more than is reserved.
    is_over: bool,
    /// The answer was ended here.
    is_cut: bool,
}

/// How an attempt is made.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) rate: Rate,
    /// When it must have said its first word.
    pub(crate) share: Instant,
    /// Whether its start is probed: another could still be asked.
    pub(crate) is_probed: bool,
    /// Whether to say nothing and to stop is an answer. To a client that runs its tools itself it is: a model may have
    /// nothing to add to their results. An agent has to say something.
    pub(crate) may_be_silent: bool,
}

/// Asks one link and waits for its first text or tool call, and tells it. Blank text is none: an answer may begin with
/// it, and one that is nothing else is a failure, unless the way allows it. Where the start is probed, what it says until
/// then is held back.
pub(crate) async fn first(
    link: &Link,
    call: &Arc<Call>,
    way: Way,
    sent: Sent,
) -> Result<(Opened, Vec<Chunk>), Trouble> {
    let mut opened = open(link, call, way.rate, sent).await?;
    let mut silence = Silence::first(link, opened.started);
    while let Some(piece) = next(&mut opened, silence.until_at_most(way.share)).await? {
        match piece {
            Piece::Text(text) => {
                opened.say(&text)?;
                if !opened.text.trim().is_empty() {
                    opened.first_token = Instant::now();
                    return probed(opened, (link, way)).await;
                }
                silence = Silence::between(link);
            }
            Piece::Tool(delta) => {
                opened.first_token = Instant::now();
                return called(opened, delta);
            }
            Piece::Alive => silence = Silence::between(link),
            piece => opened.note(&piece),
        }
    }
    if opened.finish == Some(Finish::Stop) && way.may_be_silent {
        return Ok(opened.shown());
    }
    let trouble = match opened.finish {
        Some(Finish::Filtered) => Trouble::new(Kind::Refused, true),
        Some(Finish::Length) => Trouble::new(Kind::NoRoom, true),
        Some(Finish::Stop) => Trouble::bad("it is empty"),
        Some(Finish::ToolCalls) => Trouble::bad(NO_CALLS),
        None => Trouble::bad("it ended before it began"),
    };
    // A count before the end is not the last one.
    let counted = opened.counted().filter(|_| opened.finish.is_some());
    Err(Trouble { usage: counted.map(Box::new), ..trouble })
}

/// Holds the first text back until it is seen to come fast enough. A tool call, a thought or the end are no slowness.
async fn probed(mut opened: Opened, (link, way): (&Link, Way)) -> Result<(Opened, Vec<Chunk>), Trouble> {
    let min = link.limits.min_chars_per_s.filter(|_| way.is_probed);
    let Some(probe) = min.map(Probe::begin) else { return Ok(opened.shown()) };
    while opened.finish.is_none() && !probe.is_passed(&opened.text) {
        let piece = match timeout_at(probe.until, next(&mut opened, Silence::between(link))).await {
            Err(_) => return Err(Trouble::new(Probe::failure(), true)),
            Ok(piece) => piece?,
        };
        match piece {
            Some(Piece::Text(text)) => {
                opened.say(&text)?;
            }
            Some(Piece::Tool(delta)) => return called(opened, delta),
            Some(piece @ (Piece::Usage(_) | Piece::Finish(_))) => opened.note(&piece),
            Some(Piece::Alive | Piece::End) => break,
            None => return Err(Trouble::bad("it ended without an end")),
        }
    }
    Ok(opened.shown())
}

/// What is told with the first fragment of a tool call.
fn called(mut opened: Opened, delta: ToolDelta) -> Result<(Opened, Vec<Chunk>), Trouble> {
    let said = opened.call(&delta)?;
    let (opened, mut shown) = opened.shown();
    shown.extend(said.then_some(Chunk::Tool(delta)));
    Ok((opened, shown))
}

/// Asks one link.
async fn open(link: &Link, call: &Arc<Call>, rate: Rate, sent: Sent) -> Result<Opened, Trouble> {
    let (started, total) = (Instant::now(), link.limits.total);
    let ask = Ask {
        call: call.clone(),
        model: link.model.clone(),
        max_output: rate.output,
        total,
        sent: sent.clone(),
    };
    let Silence { until, after } = Silence::first(link, started);
    let rest = timeout_at(until, link.backend.start(ask)).await.map_err(|_| sent.late(after))??;
    Ok(Opened {
        text: String::new(),
        calls: Calls::new(call.clone()),
        rest,
        is_over: false,
        usage: None,
        finish: None,
        started,
        first_token: started,
        until: started + total,
        speed: Speed::of(link.limits.min_chars_per_s),
        room: Room { output: rate.output, bytes: 0, is_over: false, is_cut: false },
    })
}

/// How long an attempt may be silent.
#[derive(Clone, Copy)]
struct Silence {
    until: Instant,
    after: Duration,
}

impl Silence {
    /// Until the first sign of life.
    fn first(link: &Link, started: Instant) -> Self {
        let after = link.limits.first_token.min(link.limits.total);
        Self { until: started + after, after }
    }

    fn until_at_most(self, latest: Instant) -> Self {
        Self { until: self.until.min(latest), ..self }
    }

    /// From now to the next piece.
    fn between(link: &Link) -> Self {
        let after = link.limits.idle;
        Self { until: Instant::now() + after, after }
    }
}

/// The next piece, if there is one.
async fn next(opened: &mut Opened, silence: Silence) -> Result<Option<Piece>, Trouble> {
    if opened.room.is_cut || opened.is_over {
        return Ok(None);
    }
    match timeout_at(opened.until.min(silence.until), opened.rest.next()).await {
        Err(_) => Err(Trouble::new(Kind::TooSlow { after: silence.after }, true)),
        Ok(None | Some(Ok(Piece::End))) => {
            opened.is_over = true;
            Ok(None)
        }
        Ok(Some(piece)) => piece.map(Some),
    }
}

/// The next piece of what is shown, which may come too slowly.
async fn paced(opened: &mut Opened, silence: Silence) -> Result<Option<Piece>, Trouble> {
    loop {
        let Some(left) = opened.speed.left() else { return next(opened, silence).await };
        let began = Instant::now();
        let piece = timeout_at(began + left, next(opened, silence)).await;
        let slow = |kind| Trouble::new(kind, true);
        match piece {
            Err(_) => opened.speed.waited(left).map_err(slow)?,
            Ok(piece) => {
                let piece = piece?;
                if let Some(Piece::Text(text)) = &piece {
                    opened.speed.came(text);
                }
                if let Some(Piece::Tool(delta)) = &piece {
                    opened.speed.came(&delta.arguments);
                }
                if matches!(piece, Some(Piece::Alive)) {
                    opened.speed.thinks();
                }
                opened.speed.waited(began.elapsed()).map_err(slow)?;
                return Ok(piece);
            }
        }
    }
}

/// What came of one piece.
pub(crate) enum Heard {
    Said(Chunk),
    Noted,
    End,
}

/// The next piece of an answer that was begun to be shown.
pub(crate) async fn heard(opened: &mut Opened, link: &Link) -> Result<Heard, Trouble> {
    Ok(match paced(opened, Silence::between(link)).await? {
        Some(Piece::Text(text)) => match opened.say(&text)? {
            said if said.is_empty() => Heard::Noted,
            said => Heard::Said(Chunk::Text(said)),
        },
        Some(Piece::Tool(delta)) => match opened.call(&delta)? {
            true => Heard::Said(Chunk::Tool(delta)),
            false => Heard::Noted,
        },
        Some(piece) => {
            opened.note(&piece);
            Heard::Noted
        }
        None => Heard::End,
    })
}

impl Opened {
    /// Its count, unless it was ended here: then nobody has counted.
    pub(crate) fn counted(&self) -> Option<Usage> {
        self.usage.filter(|_| !self.room.is_cut)
    }

    /// What is told of the text so far.
    fn shown(self) -> (Self, Vec<Chunk>) {
        let said = (!self.text.is_empty()).then(|| Chunk::Text(self.text.clone()));
        (self, said.into_iter().collect())
    }

    /// Takes a text, and gives what there is room for.
    fn say(&mut self, text: &str) -> Result<String, Trouble> {
        self.is_going_on()?;
        let left = self.room.left();
        let said = text.get(..text.floor_char_boundary(left)).unwrap_or_default();
        if said.len() < text.len() || self.room.is_over {
            self.cut();
        }
        self.room.bytes = self.room.bytes.saturating_add(said.len() as u64);
        self.text.push_str(said);
        if self.text.len() > TEXT_BYTES_MAX {
            return Err(Trouble::bad("it is longer than any answer may be"));
        }
        Ok(said.to_owned())
    }

    /// Takes a fragment of a tool call; false if there is no room for it.
    fn call(&mut self, delta: &ToolDelta) -> Result<bool, Trouble> {
        self.is_going_on()?;
        if delta.arguments.len() > self.room.left() {
            self.cut();
            return Ok(false);
        }
        self.room.bytes = self.room.bytes.saturating_add(delta.arguments.len() as u64);
        self.calls.take(delta)?;
        Ok(true)
    }

    /// Ends it where what was reserved for it ends.
    fn cut(&mut self) {
        metrics::counter!("gateway_cut_total").increment(1);
        self.room.is_cut = true;
        self.finish = Some(Finish::Length);
    }

    /// What comes after the end belongs to nothing.
    fn is_going_on(&self) -> Result<(), Trouble> {
        match self.finish {
            None => Ok(()),
            Some(_) => Err(Trouble::bad("it goes on after its end")),
        }
    }

    /// What is still to be told of tool calls, and how the answer ended. Some say `stop` where a tool was called.
    pub(crate) fn end(&mut self, finish: Finish) -> Result<(Vec<ToolDelta>, Finish), Trouble> {
        match finish {
            Finish::Length | Finish::Filtered => Ok((Vec::new(), finish)),
            Finish::Stop if self.calls.is_empty() => Ok((Vec::new(), finish)),
            Finish::ToolCalls if self.calls.is_empty() => Err(Trouble::bad(NO_CALLS)),
            Finish::Stop | Finish::ToolCalls => {
                let rest = self.calls.close();
                let error = Trouble::bad("the arguments of its tool calls are no json objects");
                if self.calls.are_whole() { Ok((rest, Finish::ToolCalls)) } else { Err(error) }
            }
        }
    }

    fn note(&mut self, piece: &Piece) {
        match piece {
            Piece::Usage(usage) => {
                self.usage = Some(*usage);
                self.room.is_over = usage.output > self.room.output && usage.output != NO_COUNT;
            }
            Piece::Finish(finish) => self.finish = Some(*finish),
            Piece::Text(_) | Piece::Tool(_) | Piece::Alive | Piece::End => {}
        }
    }
}

impl Room {
    /// Bytes for which there is room. None once the provider itself counts more than was reserved.
    fn left(&self) -> usize {
        if self.is_over {
            return 0;
        }
        let most = self.output.0.saturating_mul(TOKEN_BYTES_MAX);
        usize::try_from(most.saturating_sub(self.bytes)).unwrap_or(usize::MAX)
    }
}
