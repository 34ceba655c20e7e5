//! The plugin's log: stamped, escaped, capped.
//!
//! A guest writes what it likes, and a terminal obeys control characters; so they are escaped. Lines beyond the
//! limit are dropped and counted, not punished: a plugin that talks too much still answers.

use crate::limits::Limits;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest line in bytes; the rest is cut.
const LINE_BYTES_MAX: usize = 2_000;

/// Whose log it is.
#[derive(Debug)]
pub(crate) struct Stamp {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// A line of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) text: String,
}

impl Line {
    /// Writes the line to the host's log, under the target `plugin`.
    pub(crate) fn emit(&self, stamp: &Stamp) {
        let (plugin, version, text) = (stamp.name.as_str(), stamp.version.as_str(), self.text.as_str());
        match self.level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, version, "{text}"),
            Level::Info => tracing::info!(target: "plugin", plugin, version, "{text}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, version, "{text}"),
            Level::Error => tracing::error!(target: "plugin", plugin, version, "{text}"),
        }
    }
}

/// Where lines go.
#[derive(Debug)]
enum Sink {
    Host(Arc<Stamp>),
    /// Kept, for the child process to hand over.
    Kept(Vec<Line>),
}

/// The log of one call.
#[derive(Debug)]
pub(crate) struct GuestLog {
    sink: Sink,
    lines_left: u32,
    bytes_left: usize,
    dropped: u32,
    /// Bytes of stdout and stderr that no newline has ended yet.
    partial: Vec<u8>,
}

impl GuestLog {
    pub(crate) fn to_host(stamp: Arc<Stamp>, limits: &Limits) -> Self {
        Self::new(Sink::Host(stamp), limits)
    }

    pub(crate) fn kept(limits: &Limits) -> Self {
        Self::new(Sink::Kept(Vec::new()), limits)
    }

    fn new(sink: Sink, limits: &Limits) -> Self {
        let (lines_left, bytes_left) = (limits.log_lines, limits.log_bytes);
        Self { sink, lines_left, bytes_left, dropped: 0, partial: Vec::new() }
    }

    /// A line through the `log` interface.
    pub(crate) fn write(&mut self, level: Level, text: &str) {
        let cost = text.len().min(LINE_BYTES_MAX);
        if self.lines_left == 0 || self.bytes_left < cost {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.lines_left -= 1;
        self.bytes_left -= cost;
        self.put(Line { level, text: escaped(text) });
    }

    /// Lines that another process has kept, as far as they are within this log's bounds.
    pub(crate) fn pass_on(&mut self, lines: Vec<Line>) {
        for line in lines {
            self.write(line.level, &line.text);
        }
    }

    /// Bytes of stdout or stderr; each line becomes a line of the log.
    pub(crate) fn write_stdio(&mut self, bytes: &Bytes) {
        for &byte in bytes {
            if byte == b'\n' || self.partial.len() >= LINE_BYTES_MAX {
                self.end_partial();
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
    }

    /// The lines that were kept, the rest of stdio and a word on what was dropped.
    pub(crate) fn take_kept(&mut self) -> Vec<Line> {
        self.finish();
        match &mut self.sink {
            Sink::Kept(lines) => std::mem::take(lines),
            Sink::Host(_) => Vec::new(),
        }
    }

    /// Ends the log of the call.
    pub(crate) fn finish(&mut self) {
        self.end_partial();
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.put(Line { level: Level::Warn, text: format!("{dropped} further lines were dropped") });
        }
    }

    fn end_partial(&mut self) {
        if !self.partial.is_empty() {
            let bytes = std::mem::take(&mut self.partial);
            self.write(Level::Info, &String::from_utf8_lossy(&bytes));
        }
    }

    fn put(&mut self, line: Line) {
        match &mut self.sink {
            Sink::Host(stamp) => line.emit(stamp),
            Sink::Kept(lines) => lines.push(line),
        }
    }
}

impl Drop for GuestLog {
    fn drop(&mut self) {
        if matches!(self.sink, Sink::Host(_)) {
            self.finish();
        }
    }
}

/// At most [`LINE_BYTES_MAX`] bytes, control characters as `\u{1b}`.
pub(crate) fn escaped(text: &str) -> String {
    cut(text, LINE_BYTES_MAX).chars().fold(
        String::with_capacity(text.len().min(LINE_BYTES_MAX)),
        |mut out, c| {
            if c.is_control() {
                out.extend(c.escape_default())
            } else {
                out.push(c)
            }
            out
        },
    )
}

/// The longest beginning of `text` within so many bytes.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(log_lines: u32, log_bytes: usize) -> GuestLog {
        GuestLog::kept(&Limits { log_lines, log_bytes, ..Limits::STANDARD })
    }

    fn texts(log: &mut GuestLog) -> Vec<String> {
        log.take_kept().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn control_characters_are_escaped_and_long_lines_cut() {
        let mut log = log(10, 10_000);
        log.write(Level::Info, "a\u{1b}[31mb\r\n");
        log.write(Level::Info, &"ä".repeat(LINE_BYTES_MAX));
        let texts = texts(&mut log);
        assert_eq!(texts.first().unwrap(), "a\\u{1b}[31mb\\r\\n");
        assert_eq!(texts.get(1).unwrap().len(), LINE_BYTES_MAX);
    }

    #[test]
    fn log_lines_obeyed() {
        let mut log = log(2, 10_000);
        log.write(Level::Info, "a");
        log.write(Level::Info, "b");
        assert_eq!(texts(&mut log), ["a", "b"]);
    }

    #[test]
    fn log_lines_violated() {
        let mut log = log(2, 10_000);
        for text in ["a", "b", "c", "d"] {
            log.write(Level::Info, text);
        }
        assert_eq!(texts(&mut log), ["a", "b", "2 further lines were dropped"]);
    }

    #[test]
    fn log_bytes_obeyed() {
        let mut log = log(10, 4);
        log.write(Level::Info, "abc");
        log.write(Level::Info, "d");
        assert_eq!(texts(&mut log), ["abc", "d"]);
    }

    #[test]
    fn log_bytes_violated() {
        let mut log = log(10, 3);
        log.write(Level::Info, "abc");
        log.write(Level::Info, "d");
        assert_eq!(texts(&mut log), ["abc", "1 further lines were dropped"]);
    }

    #[test]
    fn stdio_becomes_lines() {
        let mut log = log(10, 10_000);
        log.write_stdio(&Bytes::from_static(b"on"));
        log.write_stdio(&Bytes::from_static(b"e\n\ntwo\xff"));
        assert_eq!(texts(&mut log), ["one", "two\u{fffd}"]);
    }
}
