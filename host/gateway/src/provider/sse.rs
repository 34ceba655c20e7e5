//! Server-sent events, decoded as the bytes come in.
//!
//! Own code, because it must be bounded (a line without an end must not eat the memory) and indifferent to
//! where the network cuts: in the middle of a character, between CR and LF, anywhere.

use super::Trouble;

/// Longest line: 1 MiB, far above what any provider sends.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Longest event, all its data lines.
const EVENT_BYTES_MAX: usize = 2 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// Its name; empty if it has none.
    pub(crate) name: String,
    /// Its data lines, joined by newlines.
    pub(crate) data: String,
}

/// The decoder.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    started: bool,
}

impl Sse {
    /// Takes bytes and adds the events that they complete, also those before what cannot be read.
    pub(crate) fn take(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Trouble> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = rest.split_at(end);
            self.extend(head)?;
            events.extend(self.end_of_line()?);
            rest = tail.get(1..).unwrap_or_default();
        }
        self.extend(rest)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        if self.line.len().saturating_add(bytes.len()) > LINE_BYTES_MAX {
            return Err(Trouble::bad("a line is too long"));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_of_line(&mut self) -> Result<Option<Event>, Trouble> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8(bytes).map_err(|_| Trouble::bad("it is not utf-8"))?;
        let line = line.strip_suffix('\r').unwrap_or(&line);
        let line = if self.started { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.event.data.len().saturating_add(value.len()) > EVENT_BYTES_MAX {
                    return Err(Trouble::bad("an event is too long"));
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments (an empty field), `id`, `retry` and what may come one day.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
impl Sse {
    /// The events that these bytes complete, if all can be read.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Trouble> {
        let mut events = Vec::new();
        self.take(bytes, &mut events).map(|()| events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<Event> {
        let mut sse = Sse::default();
        pieces.iter().flat_map(|piece| sse.push(piece).unwrap()).collect()
    }

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.into(), data: data.into() }
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let text = "\u{feff}: hello\r\nevent: a\r\ndata: Grüße 🦀\r\n\r\ndata:one\ndata:\ndata: two\nid: 7\n\nevent: b\n\n";
        let whole = decode(&[text.as_bytes()]);
        assert_eq!(whole, [event("a", "Grüße 🦀"), event("", "one\n\ntwo")]);
        for cut in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            assert_eq!(decode(&[head, tail]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(decode(&single), whole);
    }

    #[test]
    fn the_line_limit_is_obeyed_and_violated() {
        let mut sse = Sse::default();
        assert!(sse.push(&vec![b'x'; LINE_BYTES_MAX]).is_ok());
        assert!(sse.push(b"x").is_err());
    }

    #[test]
    fn the_event_limit_is_violated() {
        let line = format!("data: {}\n", "x".repeat(LINE_BYTES_MAX - 10));
        let mut sse = Sse::default();
        assert!(sse.push(line.as_bytes()).is_ok() && sse.push(line.as_bytes()).is_ok());
        assert!(sse.push(line.as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        assert!(Sse::default().push(b"data: \xff\n").is_err());
    }
}
