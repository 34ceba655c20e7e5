//! `chela budget`: what is used of what may be, and more of it for a while.

use std::cmp::Reverse;
use std::process::ExitCode;

use chela_gateway::Standing;
use chela_store::Event;
use chela_types::{Clock, Quantity, SystemClock, TenantId};

use super::args::{BudgetCommand, ConfigPath, Shown};
use super::operator::Operator;
use super::{Failure, Outcome, events, keep_whole, load, say, say_json, table};
use crate::compose;
use crate::doors::{BUDGETS_MAX, RaiseBudget, Raised};
use crate::turn::{in_one_line, moment};

/// Of so many events at most those of one budget are shown.
const EVENTS: usize = 1_000;

pub(super) async fn run(command: BudgetCommand) -> Outcome {
    match command {
        BudgetCommand::List { shown } => list(&shown).await,
        BudgetCommand::Show { scope, shown } => show(&scope, &shown).await,
        BudgetCommand::Raise { scope, by, lasts, why, shown } => {
            let asked = RaiseBudget { scope, by, seconds: lasts.as_secs(), why };
            let host = Operator::running(&shown.config).await?;
            let raised: Raised = host.post("/budgets/raise", &asked).await?;
            if shown.json {
                return say_json(&raised);
            }
            let Raised { scope, by, until } = raised;
            say(&format!("{} may use {by} more until {}\n", in_one_line(&scope), moment(until)));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// How all stand, and what was told of them lately.
async fn standing(at: &ConfigPath) -> Result<(Vec<Standing>, Vec<Event>), Failure> {
    Ok(match Operator::at(at).await? {
        Operator::Running(host) => {
            (host.get("/budgets").await?, host.get(&format!("/events?limit={EVENTS}")).await?)
        }
        Operator::Stopped(store) => {
            let budgets = compose::budgets(&load(at)?);
            let (tenant, now) = (TenantId::default_tenant(), SystemClock.now());
            let rows = store.budgets(&tenant, (&budgets.begun(now), now), BUDGETS_MAX).await?;
            (budgets.standing(rows, now), store.newest_events(&tenant, None, EVENTS).await?)
        }
    })
}

async fn list(shown: &Shown) -> Outcome {
    let (mut all, _) = standing(&shown.config).await?;
    all.sort_by_key(|one| (Reverse(one.percent()), one.scope.clone()));
    if shown.json {
        return say_json(&all);
    }
    say(&page(&all));
    Ok(ExitCode::SUCCESS)
}

async fn show(scope: &str, shown: &Shown) -> Outcome {
    let (all, told) = standing(&shown.config).await?;
    let is_of =
        |name: &str| name == scope || name.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'));
    let own: Vec<_> = all.into_iter().filter(|one| is_of(&one.scope)).collect();
    let is_told =
        |event: &&Event| event.happened.detail.get("scope").and_then(|of| of.as_str()).is_some_and(is_of);
    let told: Vec<_> = told.iter().filter(is_told).collect();
    if shown.json {
        return say_json(&serde_json::json!({ "budgets": own, "events": told }));
    }
    if own.is_empty() && told.is_empty() {
        return Err(Failure::new(format!("nothing of `{scope}` is used in its windows"))
            .help("`chela budget list` shows those of which something is"));
    }
    say(&page(&own));
    for event in told {
        say(&format!("{}\n", events::line(event)));
    }
    Ok(ExitCode::SUCCESS)
}

fn page(all: &[Standing]) -> String {
    if all.is_empty() {
        return "nothing is used in the windows of now\n".to_owned();
    }
    let mut table = table(&["budget", "used", "set aside", "of", "", "until"]);
    for one in all {
        let limit = one.limit.map_or("–".to_owned(), |limit| match one.raised.amount {
            0 => limit.to_string(),
            _ => format!("{limit} + {}", one.raised),
        });
        let percent = one.percent().map_or(String::new(), |percent| format!("{percent} %"));
        let quantity = |quantity: Quantity| quantity.to_string();
        table.add_row([
            in_one_line(&one.scope),
            quantity(one.settled),
            quantity(one.reserved),
            limit,
            percent,
            moment(one.ends),
        ]);
    }
    keep_whole(&mut table, &[0]);
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::{Millis, Money, Tokens};

    #[test]
    fn a_page_shows_what_is_used_of_what() {
        let dollars = |cents: i64| Quantity::from(Money::from_nanos(cents * 10_000_000));
        let standing = Standing {
            scope: "agent:support/day".to_owned(),
            limit: Some(dollars(2_000)),
            raised: dollars(500),
            settled: dollars(1_602),
            reserved: dollars(3),
            ends: Millis(1_795_910_400_000),
        };
        let tokens = |tokens| Quantity::from(Tokens(tokens));
        let counted = Standing {
            scope: "user:web/U1/hour/tokens".to_owned(),
            limit: None,
            raised: tokens(0),
            settled: tokens(1_500),
            reserved: tokens(0),
            ..standing.clone()
        };
        let page = page(&[standing, counted]);
        for part in
            ["$16.02", "$0.03", "$20.00 + $5.00", "64 %", "1500 tokens", "–", "2026-11-29 00:00:00 UTC"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(super::page(&[]).contains("nothing is used"));
    }
}
