//! `chela cache`: what is kept, what would become of a question, and what is to go.

use std::process::ExitCode;

use chela_gateway::{Candidate, Evict, Evicted, Explained, Stock};
use chela_types::AgentId;

use super::args::{CacheCommand, Meant};
use super::operator::Operator;
use super::{Failure, Outcome, say, say_json, table};
use crate::doors::{EvictCached, ExplainCached};
use crate::turn::in_one_line;

pub(super) async fn run(command: CacheCommand) -> Outcome {
    match command {
        CacheCommand::List { shown } => {
            let stock: Stock = Operator::running(&shown.config).await?.get("/cache").await?;
            if shown.json { say_json(&stock) } else { told(&stock_page(&stock)) }
        }
        CacheCommand::Explain { question, agent, content, shown } => {
            let asked = ExplainCached { agent: AgentId::new(agent)?, question, content };
            let host = Operator::running(&shown.config).await?;
            let explained: Explained = host.post("/cache/explain", &asked).await?;
            if shown.json { say_json(&explained) } else { told(&explained_page(&explained)) }
        }
        CacheCommand::Evict { meant, wrong, why, shown } => {
            let asked = EvictCached { which: which(meant)?, wrong, why };
            let host = Operator::running(&shown.config).await?;
            let evicted: Evicted = host.post("/cache/evict", &asked).await?;
            if shown.json { say_json(&evicted) } else { told(&evicted_line(evicted, wrong)) }
        }
    }
}

fn told(text: &str) -> Outcome {
    say(text);
    Ok(ExitCode::SUCCESS)
}

fn which(meant: Meant) -> Result<Evict, Failure> {
    let Meant { all: _, agent, entry, user } = meant;
    Ok(match (agent, entry, user) {
        (Some(agent), ..) => Evict::Agent(AgentId::new(agent)?),
        (_, Some(entry), _) => Evict::Entry(entry),
        (.., Some(user)) => Evict::User(user),
        (None, None, None) => Evict::All,
    })
}

fn stock_page(stock: &Stock) -> String {
    if !stock.enabled {
        return "nothing is kept: `[cache] enabled = false`\n".to_owned();
    }
    let mut table = table(&["agent", "answers", "bytes", "served", "saved"]);
    for agent in &stock.agents {
        let numbers = [agent.entries, agent.bytes, agent.served].map(|number| number.to_string());
        let [entries, bytes, served] = numbers;
        table.add_row([agent.agent.to_string(), entries, bytes, served, agent.saved.to_string()]);
    }
    format!("{table}\n{} answers, {} bytes\n", stock.entries, stock.bytes)
}

fn explained_page(explained: &Explained) -> String {
    let Explained { enabled, level, form, candidates } = explained;
    if !enabled {
        return "nothing is kept: `[cache] enabled = false`\n".to_owned();
    }
    let form = form.as_deref().unwrap_or("none: only exactly the same answers it");
    let mut page = format!("level {} · form {form}\n", level.as_str());
    if candidates.is_empty() {
        page.push_str("nothing that is kept for this agent is like it: it would be asked\n");
    }
    candidates.iter().for_each(|candidate| page.push_str(&candidate_lines(candidate)));
    page
}

fn candidate_lines(candidate: &Candidate) -> String {
    let Candidate { entry, parts, likeness, why, then, vetted, band, question } = candidate;
    let likeness =
        likeness.map_or("the same".to_owned(), |likeness| format!("{:.1} % alike", likeness * 100.0));
    let [version, knowledge, system, parameters] = parts;
    let mut lines = format!("entry {entry} · {likeness} · {why} · would be {then}\n");
    lines.push_str(&format!(
        "  version {version} · documents {knowledge} · instructions {system} · parameters {parameters}\n"
    ));
    if let Some(band) = band {
        let (open, vetted) = (if band.open { "open" } else { "closed" }, if *vetted { "" } else { "not " });
        let most = band.wrong_at_most * 100.0;
        let (compared, wrong) = (band.compared, band.wrong);
        lines.push_str(&format!(
            "  band {open}: {compared} compared, {wrong} wrong, at most {most:.2} % · {vetted}vetted\n"
        ));
    }
    if let Some(question) = question {
        lines.push_str(&format!("  {}\n", in_one_line(question)));
    }
    lines
}

fn evicted_line(evicted: Evicted, wrong: bool) -> String {
    let Evicted { entries, wrong: counted } = evicted;
    match wrong {
        true => format!(
            "{entries} evicted, {counted} counted as wrong where they were served for their likeness\n"
        ),
        false => format!("{entries} evicted\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_gateway::{AgentStock, BandStanding, CacheLevel};
    use chela_types::Money;

    #[test]
    fn a_page_shows_what_was_saved() {
        let agent = AgentStock {
            agent: AgentId::new("support").unwrap(),
            entries: 3,
            bytes: 900,
            served: 12,
            saved: Money::from_nanos(1_620_000_000),
        };
        let page = stock_page(&Stock { enabled: true, entries: 3, bytes: 900, agents: vec![agent] });
        for part in ["support", "900", "12", "$1.62", "3 answers"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(stock_page(&Stock::default()).contains("nothing is kept"));
    }

    #[test]
    fn a_question_is_explained_line_by_line() {
        let band = BandStanding { compared: 297, wrong: 0, wrong_at_most: 0.01, open: true };
        let candidate = Candidate {
            entry: "0123456789ab".to_owned(),
            parts: ["v", "k", "s", "p"].map(str::to_owned),
            likeness: Some(0.875),
            why: "similar".to_owned(),
            then: "served".to_owned(),
            vetted: true,
            band: Some(band),
            question: Some("How\n\u{1b}[2J?".to_owned()),
        };
        let explained = Explained {
            enabled: true,
            level: CacheLevel::Similar,
            form: Some("ab".to_owned()),
            candidates: vec![candidate],
        };
        let page = explained_page(&explained);
        for part in ["level similar", "87.5 % alike", "would be served", "297 compared, 0 wrong", "1.00 %"] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains('\u{1b}'));
    }

    #[test]
    fn what_is_meant_is_one_thing() {
        let nothing = || Meant { all: false, agent: None, entry: None, user: None };
        assert_eq!(which(Meant { all: true, ..nothing() }).unwrap(), Evict::All);
        let user = Meant { user: Some("web/ann".to_owned()), ..nothing() };
        assert_eq!(which(user).unwrap(), Evict::User("web/ann".to_owned()));
        assert!(which(Meant { agent: Some("No Name".to_owned()), ..nothing() }).is_err());
        assert_eq!(evicted_line(Evicted { entries: 2, wrong: 1 }, false), "2 evicted\n");
    }
}
