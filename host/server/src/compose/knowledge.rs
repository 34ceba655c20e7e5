//! An agent's documents: a folder of markdown files, cut into passages at their headings.
//!
//! A passage is what a model is given and what a person is shown as a source, so it is a section with its
//! file's and heading's name; one that is too long is cut between paragraphs.

use std::fs;
use std::path::{Path, PathBuf};

use chela_store::Passage;
use chela_types::Digest;

use super::Error;
use crate::config::{Unread, read_no_link};

/// Files of one folder, its own folders included.
const FILES_MAX: usize = 10_000;
/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of one passage; longer sections are cut.
const PASSAGE_BYTES_MAX: usize = 2_000;
/// Folders within folders.
const DEPTH_MAX: usize = 8;

/// What a folder holds.
pub(super) struct Documents {
    /// Of all names and texts: another one means that something has changed.
    pub(super) digest: Digest,
    pub(super) passages: Vec<Passage>,
}

/// Reads a folder. Files other than `*.md` are left alone; a document that is not read is told in the log.
pub(super) fn read(folder: &Path) -> Result<Documents, Error> {
    let mut files = Vec::new();
    collect(folder, 0, &mut files)?;
    files.sort();
    let (mut passages, mut parts) = (Vec::new(), Vec::new());
    for path in files {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        let text = text(&path)?;
        passages.extend(sections(&name, &text));
        parts.extend([name.into_bytes(), text.into_bytes()]);
    }
    if passages.is_empty() {
        tracing::warn!(folder = %folder.display(), "there is no passage in these documents: nothing will be found");
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Ok(Documents { digest: Digest::of("chela knowledge folder 1", &parts), passages })
}

/// A document. What lies there may be another thing than when it was found.
fn text(path: &Path) -> Result<String, Error> {
    let failed = failed("read", path);
    let bytes = read_no_link(path, FILE_BYTES_MAX).map_err(|error| match error {
        Unread::Io(error) => failed(error),
        error @ (Unread::NotAFile | Unread::TooLarge(_)) => limit(path, error.to_string()),
    })?;
    String::from_utf8(bytes).map_err(|_| limit(path, "not UTF-8".to_owned()))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::File { what, path: path.to_owned(), source }
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(limit(folder, format!("folders lie more than {DEPTH_MAX} deep")));
    }
    for entry in fs::read_dir(folder).map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        // Of the entry itself: a link could lead anywhere.
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed("read", folder))?);
        let is_document = path.extension().is_some_and(|extension| extension == "md");
        if kind.is_dir() {
            collect(&path, depth + 1, files)?;
        } else if kind.is_symlink() && is_document {
            tracing::warn!(file = %path.display(), "a document that is a link is not read: put the file itself there");
        } else if kind.is_file() && is_document {
            if files.len() >= FILES_MAX {
                return Err(limit(folder, format!("more than {FILES_MAX} documents")));
            }
            files.push(path);
        }
    }
    Ok(())
}

fn limit(path: &Path, why: String) -> Error {
    Error::Configuration(format!("the documents in {} cannot be used: {why}", path.display()))
}

/// A file's passages.
fn sections(file: &str, text: &str) -> Vec<Passage> {
    let mut passages = Vec::new();
    let (mut headings, mut body, mut is_code) = (Vec::<(usize, String)>::new(), String::new(), false);
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        match heading(line).filter(|_| !is_code) {
            Some((level, title)) => {
                passages.extend(cut(file, &headings, &body));
                body.clear();
                headings.retain(|(above, _)| *above < level);
                headings.push((level, title.to_owned()));
            }
            None => {
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    passages.extend(cut(file, &headings, &body));
    passages
}

/// `## Title` as (2, "Title").
fn heading(line: &str) -> Option<(usize, &str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    ((1..=6).contains(&level) && title.starts_with(' '))
        .then(|| (level, title.trim().trim_end_matches('#').trim()))
}

/// A section as one passage, or as several if it is long. The document's own title is not repeated where a
/// heading below it says more.
fn cut(file: &str, headings: &[(usize, String)], body: &str) -> Vec<Passage> {
    let source = match headings.last() {
        Some((_, title)) => format!("{file} › {title}"),
        None => file.to_owned(),
    };
    let mut pieces = vec![String::new()];
    for paragraph in body.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        for part in lengths(paragraph) {
            let is_full = pieces.last().is_some_and(|piece| piece.len() + part.len() > PASSAGE_BYTES_MAX);
            if is_full {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut() {
                if !piece.is_empty() {
                    piece.push_str("\n\n");
                }
                piece.push_str(part);
            }
        }
    }
    let passage = |text| Passage { source: source.clone(), text };
    pieces.into_iter().filter(|piece| !piece.is_empty()).map(passage).collect()
}

/// A paragraph in parts that fit into a passage.
fn lengths(mut paragraph: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while paragraph.len() > PASSAGE_BYTES_MAX {
        let (head, tail) = paragraph.split_at(paragraph.floor_char_boundary(PASSAGE_BYTES_MAX));
        parts.push(head);
        paragraph = tail;
    }
    parts.push(paragraph);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_is_a_section_with_its_name() {
        let text = "Intro.\n\n# Returns\n\nWithin 30 days.\n\n## Refunds\nIn a week.\n```\n# not a heading\n```\n# Other\nx";
        let found: Vec<_> = sections("returns.md", text).into_iter().map(|p| (p.source, p.text)).collect();
        assert_eq!(
            found,
            [
                ("returns.md".into(), "Intro.".into()),
                ("returns.md › Returns".into(), "Within 30 days.".into()),
                ("returns.md › Refunds".into(), "In a week.\n```\n# not a heading\n```".to_owned()),
                ("returns.md › Other".into(), "x".into()),
            ]
        );
    }

    #[test]
    fn a_long_section_is_cut_and_nothing_is_lost() {
        let long = "ä".repeat(5_000);
        let passages = sections("a.md", &format!("# A\n\nshort\n\n{long}"));
        assert!(passages.len() > 2 && passages.iter().all(|p| p.text.len() <= PASSAGE_BYTES_MAX + 2));
        let text: String = passages.iter().map(|p| p.text.replace("\n\n", "")).collect();
        assert_eq!(text, format!("short{long}"));
    }

    /// What the log says while a folder is read.
    fn log_of(folder: &Path) -> (Documents, String) {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Arc::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        let documents = tracing::subscriber::with_default(subscriber, || read(folder).unwrap());
        (documents, fs::read_to_string(log.path()).unwrap())
    }

    #[test]
    fn what_is_not_read_is_told() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (documents, log) = log_of(folder.path());
        assert!(documents.passages.is_empty());
        assert!(log.contains("WARN") && log.contains("no passage"), "{log}");
        fs::write(elsewhere.path().join("secret.md"), "# Not yours").unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("secret.md"), folder.path().join("link.md"))
            .unwrap();
        fs::write(folder.path().join("a.md"), "eins").unwrap();
        let (documents, log) = log_of(folder.path());
        assert_eq!(documents.passages.iter().map(|p| &*p.source).collect::<Vec<_>>(), ["a.md"]);
        assert!(log.contains("link.md") && log.contains("not read") && !log.contains("no passage"), "{log}");
    }

    #[test]
    fn a_folder_is_read_in_order_and_its_digest_is_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/two.md"), "# Two\nzwei").unwrap();
        fs::write(folder.path().join("a.md"), "eins").unwrap();
        fs::write(folder.path().join("c.txt"), "no").unwrap();
        let first = read(folder.path()).unwrap();
        assert_eq!(first.passages.iter().map(|p| &*p.source).collect::<Vec<_>>(), ["a.md", "b/two.md › Two"]);
        assert_eq!(read(folder.path()).unwrap().digest, first.digest);
        fs::write(folder.path().join("a.md"), "eins!").unwrap();
        assert_ne!(read(folder.path()).unwrap().digest, first.digest);
    }
}
