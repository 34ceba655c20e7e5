//! What keeps the store as quick with a million rows as with ten: how SQLite goes about the statements that
//! every message needs.

use super::*;
use crate::{
    blob, change, event, frame, health, inbox, journal, ledger, mailbox, outbox, progress, record, replay,
    retention, slice, spend, version,
};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

/// The statements on a message's way.
const EVERY_MESSAGE: [&str; 24] = [
    inbox::KEEP,
    change::FIND,
    progress::SET,
    outbox::IN_RESPONSE,
    mailbox::CLAIM,
    mailbox::DUE,
    mailbox::RENEW,
    journal::UTTERANCES,
    journal::WRITE,
    journal::REWRITE,
    journal::EMPTY,
    frame::KEEP,
    journal::DECIDE,
    ledger::RESERVE,
    ledger::RESERVE_HELD,
    ledger::CLOSE,
    slice::TAKE,
    slice::SPEND,
    slice::RETURN,
    spend::COUNT,
    outbox::ANSWER,
    outbox::STEP,
    outbox::DELIVER,
    outbox::CLOSE,
];

/// The tables that grow with the messages.
const TABLES: [&str; 15] = [
    "versions",
    "events",
    "frames",
    "progress",
    "receipts",
    "conversations",
    "turns",
    "dedupe",
    "contents",
    "decisions",
    "journal",
    "outbox",
    "budgets",
    "reservations",
    "stream_events",
];

/// True if a step reads all of a table, or all of a channel or conversation. `SCAN t` is a whole table (or index)
/// under the name that the statement gives it; a key that is used in part is nearly as much.
fn reads_much(statement: &str, step: &str) -> bool {
    let scans = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next()).is_some_and(|name| {
        TABLES.iter().any(|table| name == *table || statement.contains(&format!("{table} AS {name} ")))
    });
    // Of raises those are read that have not ended: people make them.
    let partly = step.contains("(tenant=?")
        && !["key=?)", "window_start=?)", "budget_raises_scope (tenant=? AND scope=? AND until>?)"]
            .iter()
            .any(|whole| step.contains(whole));
    // A table that the statement does not name is looked at for the foreign keys of a new row, which has none.
    let closed_turns =
        statement.contains("turns") && step.contains("(conversation=?)") && !step.contains("turns_open");
    scans || partly || closed_turns
}

/// What of a statement reads much, by the plan that SQLite makes of it; and the number of its steps.
async fn check(connection: &mut SqliteConnection, statements: &str) -> (Vec<String>, usize) {
    let (mut much, mut steps) = (Vec::new(), 0);
    for statement in statements.split(';') {
        let plan = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        for row in sqlx::query(plan).fetch_all(&mut *connection).await.unwrap() {
            let step: String = row.get("detail");
            steps += 1;
            if reads_much(statement, &step) {
                much.push(format!("{step}, in {statement}"));
            }
        }
    }
    (much, steps)
}

/// These once made the store slower with each message: SQLite compared every key of the channel with the given
/// one, and looked through a conversation's closed turns for its open one.
#[tokio::test]
async fn no_statement_of_a_message_reads_more_the_more_is_kept() {
    let b = bench().await;
    let mut connection = b.aside().await;
    let mut steps = 0;
    for statements in EVERY_MESSAGE {
        let (much, seen) = check(&mut connection, statements).await;
        assert!(much.is_empty(), "{much:#?}");
        steps += seen;
    }
    assert!(steps > 30, "plans were seen: {steps}");
    for slow in [
        "SELECT turns.seq FROM json_each($3) AS given
         JOIN dedupe ON dedupe.tenant = $1 AND dedupe.channel = $2 AND dedupe.key = unhex(given.value)
         JOIN turns ON turns.seq = dedupe.turn ORDER BY turns.seq LIMIT 1",
        "SELECT min(seq) FROM turns INDEXED BY turns_all WHERE conversation = $1 AND state = 'open'",
        "SELECT 1 FROM turns AS t WHERE t.tries > 0",
    ] {
        assert!(!check(&mut connection, slow).await.0.is_empty(), "{slow}");
    }
}

/// What is asked at each scrape of the metrics and by load balancers: only what is open is read, and the few sends
/// of unknown outcome.
#[tokio::test]
async fn how_things_stand_is_told_without_reading_closed_turns() {
    const OPEN: [&str; 4] =
        ["turns_open", "conversations_claimable", "outbox_ambiguous", "reservations_open"];
    let b = bench().await;
    let file = b.folder.path().join("chela.db");
    let mut connection = sqlx::ConnectOptions::connect(&crate::connect::writing(&file)).await.unwrap();
    let mut seen = 0;
    for statement in [record::STANDING, health::TRY] {
        let plan = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        for row in sqlx::query(plan).fetch_all(&mut connection).await.unwrap() {
            let step: String = row.get("detail");
            let reads_all = step.starts_with("SCAN ")
                && step != "SCAN CONSTANT ROW"
                && !OPEN.iter().any(|index| step.contains(index));
            assert!(!reads_all, "{step}");
            seen += usize::from(OPEN.iter().any(|index| step.contains(index)));
        }
    }
    assert!(seen >= OPEN.len(), "indexes are used: {seen}");
}

/// The steps of a statement's plan.
async fn steps(connection: &mut SqliteConnection, statements: &str) -> Vec<String> {
    let mut steps = Vec::new();
    for statement in statements.split(';') {
        let plan = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let rows = sqlx::query(plan).fetch_all(&mut *connection).await.unwrap();
        steps.extend(rows.iter().map(|row| row.get::<String, _>("detail")));
    }
    steps
}

/// What is asked of versions, events and recorded turns: by what each statement finds its rows. None reads a table
/// that grows with the messages from its first row on, and none sorts more than it returns.
#[tokio::test]
async fn what_is_kept_of_plugins_is_found_by_an_index() {
    let b = bench().await;
    let mut connection = b.aside().await;
    for (statement, wanted) in [
        (replay::FIRST, &["COVERING INDEX turns_recorded (tenant=? AND received_at>?)"][..]),
        (replay::COUNT, &["COVERING INDEX turns_recorded (tenant=? AND received_at>?)"]),
        (replay::PAGE, &["INTEGER PRIMARY KEY (rowid>?)", "PRIMARY KEY (turn=? AND part=? AND n=?)"]),
        (replay::JOURNALS, &["PRIMARY KEY (turn=? AND part=?)", "PRIMARY KEY (turn=? AND seq=?)"]),
        (event::AFTER, &["PRIMARY KEY (tenant=? AND seq>?)"]),
        (event::NEWEST, &["PRIMARY KEY (tenant=? AND seq>?)"]),
        (event::AFTER_OF, &["events_plugin (tenant=? AND plugin=? AND seq>?)"]),
        (event::NEWEST_OF, &["events_plugin (tenant=? AND plugin=? AND seq>?)"]),
        (event::APPEND, &["PRIMARY KEY (tenant=? AND seq<?)"]),
        (version::NAMED, &["(tenant=? AND plugin=? AND digest>? AND digest<?)"]),
        (version::OF_ANY, &["versions_digest (tenant=? AND digest=?)"]),
        (retention::WORDED, &["PRIMARY KEY (turn>?)", "INTEGER PRIMARY KEY (rowid=?)"]),
        (retention::FORGET, &["PRIMARY KEY (turn=?)"]),
        (blob::READ, &["(tenant=? AND handle=?)"]),
        (blob::KEPT, &["COVERING INDEX blobs_conversation (tenant=? AND conversation=?)"]),
        (retention::SHOWN, &["stream_events_old (at<?)"]),
        (retention::HIDE, &["PRIMARY KEY (tenant=? AND session=? AND seq=?)"]),
        (version::PURGE, &["journal_version (version=?)", "turns_open", "INTEGER PRIMARY KEY (rowid=?)"]),
    ] {
        let (much, _) = check(&mut connection, statement).await;
        let steps = steps(&mut connection, statement).await;
        for part in wanted {
            assert!(steps.iter().any(|step| step.contains(part)), "{part} in {steps:#?}");
        }
        let scans: Vec<_> = much.iter().filter(|step| step.starts_with("SCAN")).collect();
        let open_turns = statement == version::PURGE && scans.iter().all(|step| step.contains("turns_open"));
        assert!(scans.is_empty() || open_turns, "{scans:#?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:#?}");
    }
}

/// `LIMIT $n` is compiled anew at each use, because its value may change the plan; `LIMIT $n + 0` is not.
#[test]
fn no_limit_is_a_bare_argument() {
    let mut seen = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let path = file.unwrap().path();
        let Some("rs") = path.extension().and_then(|end| end.to_str()) else { continue };
        let text = std::fs::read_to_string(&path).unwrap();
        for (place, _) in text.match_indices("LIMIT $") {
            let limit = &text[place..place + "LIMIT $1 + 0".len()];
            assert!(limit.ends_with(" + 0"), "{limit} in {}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "limits were seen: {seen}");
}
