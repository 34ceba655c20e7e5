//! The guide's walk-through, as a new user goes it: every command of `docs/guide/swap.md` as it stands there, in order,
//! in an empty folder; and what the guide shows of their outputs must be what they print.
//!
//! What is another in each run (times, digests, ids) may be another one here, but the same one wherever the guide shows
//! the same. `…` stands for anything. Outputs may hold more than is shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use chela_tests::process::{free_address, program};
use chela_tests::{PATIENCE, eventually_some};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Addresses in the guide; here others are used that are free.
const ADDRESSES: [&str; 2] = ["127.0.0.1:8080", "127.0.0.1:8081"];
/// Commands that change nothing: asked again until they print what the guide shows, as a person looks again.
const LOOKS: [&str; 11] = [
    "chela check",
    "chela plugin list",
    "chela plugin history",
    "chela plugin diff",
    "chela status",
    "chela events",
    "chela turn",
    "chela replay",
    "grep",
    "curl -sS http",
    "curl -sS -H \"$admin\" http",
];
/// What stands behind each command's output.
const MARK: &str = "--- ended with";

/// What a reader of the guide does.
#[derive(Debug)]
enum Step {
    /// He writes a file.
    Write { path: String, text: String },
    /// He runs a command, and sees this.
    Run { command: String, shown: Vec<String> },
}

/// Blocks of `console`, and those of other kinds below a line that ends with a path and a colon.
fn steps(guide: &str) -> Vec<Step> {
    let (mut steps, mut label, mut lines) = (Vec::new(), "", guide.lines());
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else {
            label = if line.trim().is_empty() { label } else { line };
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let path = label.strip_suffix("`:").and_then(|rest| rest.rsplit('`').next());
        match (kind, path) {
            ("console", _) => steps.extend(commands(&block)),
            (_, Some(path)) => {
                steps.push(Step::Write { path: path.to_owned(), text: block.join("\n") + "\n" });
            }
            _ => {}
        }
        label = "";
    }
    steps
}

fn commands(block: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in block {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step::Run { command: command.to_owned(), shown: Vec::new() });
        } else if let Some(Step::Run { shown, .. }) = steps.last_mut() {
            shown.push((*line).to_owned());
        }
    }
    steps
}

/// One shell for all commands. Whatever it has started ends with it.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(folder).env("NO_COLOR", "1").env("USER", "ann");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("the walk-through needs bash");
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take().unwrap(), output, child }
    }

    /// Runs a command; what it prints, and whether it went well.
    async fn run(&mut self, command: &str) -> (String, bool) {
        let script = format!("{{ {command}\n}} 2>&1; printf '\\n%s %s\\n' '{MARK}' $?\n");
        self.input.write_all(script.as_bytes()).await.unwrap();
        let mut text = String::new();
        loop {
            let line = tokio::time::timeout(PATIENCE * 2, self.output.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("no end of `{command}`: {text}")).unwrap();
            let line = line.unwrap_or_else(|| panic!("the shell ended at `{command}`: {text}"));
            if let Some(code) = line.strip_prefix(MARK) {
                return (text, code.trim() == "0");
            }
            text.push_str(&line);
            text.push('\n');
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(group) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A line of an output, or a row of a table, whose cells may go over several lines.
#[derive(Debug, Clone)]
enum Item {
    Line(Vec<String>),
    Row(Vec<String>),
}

fn items<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Item> {
    let mut items = Vec::new();
    for line in lines.map(str::trim) {
        let Some(row) = line.strip_prefix('│').and_then(|row| row.strip_suffix('│')) else {
            if !line.is_empty() && !line.starts_with(['┌', '╞', '└']) {
                items.push(Item::Line(words(line)));
            }
            continue;
        };
        let cells: Vec<String> = row.split('┆').map(|cell| cell.split_whitespace().collect()).collect();
        // Under a version stands its digest.
        let is_digest = cells.get(1).is_some_and(|cell| cell.len() == 12 && is_name(cell));
        let goes_on = is_digest || [1, 3].iter().all(|at| cells.get(*at).is_none_or(String::is_empty));
        match items.last_mut() {
            Some(Item::Row(above)) if goes_on && cells.len() == above.len() => {
                above.iter_mut().zip(cells).for_each(|(cell, more)| cell.push_str(&more));
            }
            _ => items.push(Item::Row(cells)),
        }
    }
    items
}

/// What the guide calls something, and what it is called here.
type Names = BTreeMap<String, String>;

/// Whether all that is shown stands in an output, in this order; with the names that were learned.
fn fits(shown: &[Item], printed: &[Item], names: &Names) -> Option<Names> {
    let Some((first, shown)) = shown.split_first() else { return Some(names.clone()) };
    printed.iter().enumerate().find_map(|(at, item)| {
        let names = same(first, item, names)?;
        fits(shown, &printed[at + 1..], &names)
    })
}

fn same(shown: &Item, printed: &Item, names: &Names) -> Option<Names> {
    match (shown, printed) {
        (Item::Line(shown), Item::Line(printed)) => same_words(shown, printed, names),
        (Item::Row(shown), Item::Row(printed)) if shown.len() == printed.len() => {
            let mut pairs = shown.iter().zip(printed);
            pairs.try_fold(names.clone(), |names, (shown, printed)| same_word(shown, printed, &names))
        }
        _ => None,
    }
}

fn same_words(shown: &[String], printed: &[String], names: &Names) -> Option<Names> {
    match shown.split_first() {
        None => printed.is_empty().then(|| names.clone()),
        Some((any, rest)) if any == "…" => {
            (0..=printed.len()).find_map(|from| same_words(rest, &printed[from..], names))
        }
        Some((word, rest)) => {
            let (first, others) = printed.split_first()?;
            same_words(rest, others, &same_word(word, first, names)?)
        }
    }
}

fn same_word(shown: &str, printed: &str, names: &Names) -> Option<Names> {
    if let Some((head, tail)) = shown.split_once('…') {
        let tail = tail.trim_start_matches('…');
        let fits = printed.strip_prefix(head).is_some_and(|rest| rest.ends_with(tail));
        return fits.then(|| names.clone());
    }
    if is_time(shown) && is_time(printed) {
        return Some(names.clone());
    }
    // Since when, and by whom: `3 s ago by ann`.
    if let (Some((one, by)), Some((other, also_by))) = (shown.split_once("ago"), printed.split_once("ago"))
        && is_time(one)
        && is_time(other)
    {
        return (by == also_by).then(|| names.clone());
    }
    let (shown, printed) = (pieces(shown), pieces(printed));
    if shown.len() != printed.len() {
        return None;
    }
    shown.into_iter().zip(printed).try_fold(names.clone(), |mut names, (shown, printed)| {
        if !is_name(shown) || !is_name(printed) || shown.len() != printed.len() {
            return (shown == printed).then_some(names);
        }
        let is_known = names.get(shown).is_some_and(|known| known == printed);
        let is_new = !names.contains_key(shown) && names.values().all(|known| known != printed);
        if is_new {
            names.insert(shown.to_owned(), printed.to_owned());
        }
        (is_known || is_new).then_some(names)
    })
}

/// A moment, or how long something took.
fn is_time(word: &str) -> bool {
    let word = word.trim_end_matches(',').trim_end_matches("UTC");
    let is_moment = word.len() >= 8
        && word.contains([':', '-'])
        && word.chars().all(|c| c.is_ascii_digit() || "-:.TZ".contains(c));
    is_moment || UNITS.iter().any(|unit| word.strip_suffix(unit).is_some_and(is_number))
}

/// What times are given in.
const UNITS: [&str; 4] = ["ms", "µs", "s", "min"];

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// The words of a line; a number with the unit behind it is one.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        match words.last_mut() {
            Some(number) if is_number(number) && UNITS.contains(&word.trim_end_matches(',')) => {
                number.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// Runs of hex digits, and what is between them.
fn pieces(word: &str) -> Vec<&str> {
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let (mut pieces, mut start, mut before) = (Vec::new(), 0, None);
    for (at, c) in word.char_indices() {
        if before.is_some_and(|before| before != is_hex(c)) {
            pieces.push(&word[start..at]);
            start = at;
        }
        before = Some(is_hex(c));
    }
    pieces.push(&word[start..]);
    pieces
}

/// Whether a run of hex digits is the name of a version, a configuration or a turn.
fn is_name(piece: &str) -> bool {
    piece.len() >= 12 && piece.chars().all(|c| c.is_ascii_hexdigit())
}

/// A clone's folder after its two builds: the program, and the router's component.
fn clone(folder: &Path) -> PathBuf {
    let clone = folder.join("chela");
    let (program_folder, components) =
        (clone.join("target/release"), clone.join("target/wasm32-wasip2/release"));
    std::fs::create_dir_all(&program_folder).unwrap();
    std::fs::create_dir_all(&components).unwrap();
    std::os::unix::fs::symlink(program(), program_folder.join("chela")).unwrap();
    let keyword = chela_bundle::get("keyword").unwrap();
    std::fs::write(components.join("chela_plugin_keyword.wasm"), keyword.component).unwrap();
    clone
}

/// A reader, and what he has learned.
struct Reader {
    shell: Shell,
    addresses: Vec<(&'static str, String)>,
    names: Names,
}

impl Reader {
    /// What the guide says, with this run's addresses and names.
    fn said(&self, text: &str) -> String {
        let addresses = self.addresses.iter().map(|(guide, here)| (*guide, here));
        let names = self.names.iter().map(|(guide, here)| (guide.as_str(), here));
        addresses.chain(names).fold(text.to_owned(), |text, (guide, here)| text.replace(guide, here))
    }

    /// Into the place at once, as an editor does.
    async fn write(&mut self, path: &str, text: &str) {
        let (here, _) = self.shell.run("pwd").await;
        let path = Path::new(here.trim()).join(path);
        let beside = path.with_extension("new");
        std::fs::write(&beside, self.said(text)).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    async fn run(&mut self, command: &str, shown: &[String]) {
        let said = self.said(command);
        let unknown = pieces(&said)
            .into_iter()
            .find(|piece| is_name(piece) && self.names.values().all(|known| !known.starts_with(piece)));
        assert!(unknown.is_none(), "`{command}`: nothing shown before is called {unknown:?}");
        let follows = command.contains("--follow");
        let said = if follows { format!("timeout 5 {said}") } else { said };
        let fails = shown.iter().any(|line| line.starts_with("error"));
        let wanted = items(shown.iter().map(String::as_str).filter(|line| *line != "…"));
        let mut last = String::new();
        let looks = LOOKS.iter().any(|look| command.starts_with(look));
        let what = format!("`{command}` prints what the guide shows:\n{}\n", shown.join("\n"));
        let names = eventually_some(&what, async || {
            let (printed, is_well) = self.shell.run(&said).await;
            let found = fits(&wanted, &items(printed.lines()), &self.names);
            let found = found.filter(|_| follows || is_well != fails);
            if printed != last {
                println!("$ {said}\n{printed}");
                last = printed;
            }
            assert!(found.is_some() || looks, "{what}\nbut:\n{last}");
            found
        });
        self.names = names.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_sees_what_the_guide_shows() {
    let guide = chela_tests::tree::root().join("docs/guide/swap.md");
    let steps = steps(&std::fs::read_to_string(guide).unwrap());
    assert!(steps.len() > 40, "the guide's blocks are found: {steps:?}");
    let folder = tempfile::tempdir().unwrap();
    let addresses = ADDRESSES.map(|guide| (guide, free_address().to_string())).into();
    let shell = Shell::start(&clone(folder.path()));
    let mut reader = Reader { shell, addresses, names: Names::new() };
    for step in &steps {
        match step {
            // What they build is there.
            Step::Run { command, .. } if command.starts_with("cargo build ") => {}
            Step::Run { command, shown } => reader.run(command, shown).await,
            Step::Write { path, text } => reader.write(path, text).await,
        }
    }
}

#[test]
fn what_is_shown_is_found_with_its_names() {
    let shown = [
        "│ router ┆ 1.1.0 ┆ active, on ┆ 3 ┆ 0.3 ms ┆ 0123456789ab │",
        "│ routing ┆ ┆ trial ┆ ┆ ┆ │",
        "took 3 ms",
    ];
    let printed = "┌──┐\n│ router ┆ 1.1.0 ┆ active, ┆ 3 ┆ 7 ms ┆ fedcba9876 │\n│ routing ┆ ┆ on trial ┆ ┆ ┆ 54 │\n└──┘\nmore\ntook 12 s\n";
    let find =
        |shown: &[&str], names: &Names| fits(&items(shown.iter().copied()), &items(printed.lines()), names);
    let names = find(&shown, &Names::new()).unwrap();
    assert_eq!(names["0123456789ab"], "fedcba987654");
    assert!(find(&shown, &names).is_some(), "the same again");
    let other = Names::from([("0123456789ab".to_owned(), "aaaaaaaaaaaa".to_owned())]);
    assert!(find(&shown, &other).is_none(), "another one by the same name");
    let taken = Names::from([("bbbbbbbbbbbb".to_owned(), "fedcba987654".to_owned())]);
    assert!(find(&shown, &taken).is_none(), "the same one by another name");
    assert!(find(&["took 3 ms", "more"], &Names::new()).is_none(), "in another order");
    assert!(find(&["took 3 bites"], &Names::new()).is_none());
}
