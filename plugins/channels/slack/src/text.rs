//! Slack's way of writing: `<…>` around everything that is more than text, `&amp; &lt; &gt;` for the rest.
//!
//! What goes out is escaped whole, so nothing that a person or a model wrote can become a mention, and the
//! words that some clients turn into mass mentions are broken by an invisible mark.

/// What a mass mention is made of.
const EVERYBODY: [&str; 3] = ["channel", "everyone", "here"];
/// Invisible, and no part of a word.
const BREAK: char = '\u{200b}';

/// A post as plain text. Mentions of `own` ids go, other references keep their name.
pub(crate) fn decode(written: &str, own: &[&str]) -> String {
    let mut plain = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('<') {
        plain.push_str(before);
        let Some((inside, tail)) = after.split_once('>') else {
            plain.push('<');
            rest = after;
            break;
        };
        plain.push_str(&reference(inside, own));
        rest = tail;
    }
    plain.push_str(rest);
    let plain = plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    plain.trim().to_owned()
}

fn reference(inside: &str, own: &[&str]) -> String {
    let (target, label) = inside.split_once('|').unwrap_or((inside, ""));
    let named = |sign: &str, id: &str| format!("{sign}{}", if label.is_empty() { id } else { label });
    if let Some(user) = target.strip_prefix('@') {
        return if own.contains(&user) { String::new() } else { named("@", user) };
    }
    if let Some(channel) = target.strip_prefix('#') {
        return named("#", channel);
    }
    if let Some(command) = target.strip_prefix('!') {
        let word = command.split('^').next().unwrap_or(command);
        return if label.is_empty() { format!("@{word}") } else { label.to_owned() };
    }
    if label.is_empty() || label == target { target.to_owned() } else { format!("{label} ({target})") }
}

/// A reply's text as mrkdwn: `**bold**` and headings become `*bold*`, code stays, everything is escaped.
pub(crate) fn encode(text: &str) -> String {
    let mut in_code = false;
    let lines = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        let safe = escape(line);
        if fence || in_code { safe } else { emphasis(&safe) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn emphasis(line: &str) -> String {
    let heading = line.trim_start_matches('#');
    match heading.strip_prefix(' ') {
        Some(title) if heading.len() < line.len() => format!("*{}*", title.trim().replace("**", "")),
        _ => line.replace("**", "*"),
    }
}

fn escape(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '@' if calls_everybody(rest.as_str()) => safe.extend(['@', BREAK]),
            '\t' => safe.push(' '),
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}

fn calls_everybody(after: &str) -> bool {
    EVERYBODY.iter().any(|word| after.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// Cuts a text into parts of at most `most` characters: at the last line end, else the last space, else
/// wherever it is full. Nothing but the space at a cut is lost.
pub(crate) fn chunks(text: &str, most: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while let Some((full, _)) = rest.char_indices().nth(most) {
        let (head, _) = rest.split_at(full);
        let at = head.rfind('\n').or_else(|| head.rfind(' ')).filter(|at| *at > 0).unwrap_or(full);
        let (part, tail) = rest.split_at(at);
        parts.push(part.trim_end().to_owned());
        rest = tail.trim_start();
    }
    if !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    parts
}
