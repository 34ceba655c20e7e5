//! How budgets stand: what the ledger counted, beside what the operator allows.

use chela_store::BudgetRow;
use chela_types::{AgentId, ChannelId, DepartmentId, Millis, Quantity, Unit};
use serde::{Deserialize, Serialize};

use crate::{Budgets, Each, Limit, Window};

/// A budget in the window of this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name: `agent:support/day`, `user:web/U1/minute/requests`.
    pub scope: String,
    /// What may be used; absent: counted only.
    pub limit: Option<Quantity>,
    /// How much more, for a while.
    pub raised: Quantity,
    /// Used up.
    pub settled: Quantity,
    /// Set aside for calls under way.
    pub reserved: Quantity,
    /// When the next window begins.
    pub ends: Millis,
}

impl Standing {
    /// What is used or set aside, of what may be, in whole percent; absent where nothing limits it.
    pub fn percent(&self) -> Option<u64> {
        let most = i128::from(self.limit?.amount) + i128::from(self.raised.amount);
        let used = i128::from(self.settled.amount) + i128::from(self.reserved.amount);
        u64::try_from(used.max(0) * 100 / most.max(1)).ok()
    }
}

impl Budgets {
    /// When the windows of this moment began.
    pub fn begun(&self, now: Millis) -> Vec<Millis> {
        let mut begun: Vec<_> = Window::ALL.map(|window| window.start(now, &self.zone)).to_vec();
        begun.sort_unstable();
        begun.dedup();
        begun
    }

    /// What the ledger counted in these windows, beside the limits.
    pub fn standing(&self, rows: Vec<BudgetRow>, now: Millis) -> Vec<Standing> {
        rows.into_iter().filter_map(|row| self.stands(row, now)).collect()
    }

    /// A row under a name that is none is nobody's budget; one of a longer window may begin with a shorter one.
    fn stands(&self, row: BudgetRow, now: Millis) -> Option<Standing> {
        let (of, window, unit) = parts(&row.scope)?;
        if window.start(now, &self.zone) != row.window_start {
            return None;
        }
        let same = |limit: &&Limit| (limit.window, limit.most.unit) == (window, unit);
        let limit = self.limits(of).iter().find(same).map(|limit| limit.most);
        let quantity = |amount| Quantity { unit, amount };
        Some(Standing {
            limit,
            raised: quantity(row.raised),
            settled: quantity(row.used.settled),
            reserved: quantity(row.used.reserved),
            ends: window.end(now, &self.zone),
            scope: row.scope,
        })
    }

    /// The budget that a name means: its own (`agent:support/day`), or that of a scope which has one only
    /// (`agent:support`).
    ///
    /// # Errors
    /// The names of those that it may mean; none if nothing limits it.
    pub fn named(&self, name: &str) -> Result<(String, Limit), Vec<String>> {
        let all =
            |of: &str| -> Vec<_> { self.limits(of).iter().map(|limit| (limit.scope(of), *limit)).collect() };
        let whole = parts(name).and_then(|(of, ..)| all(of).into_iter().find(|(scope, _)| scope == name));
        match (whole, &mut *all(name)) {
            (Some(one), _) => Ok(one),
            (None, [one]) => Ok(one.clone()),
            (None, several) => Err(several.iter().map(|(scope, _)| scope.clone()).collect()),
        }
    }

    /// The limits of a scope.
    fn limits(&self, of: &str) -> &[Limit] {
        fn each<K: Ord>(each: &Each<K>, id: Result<K, chela_types::IdError>) -> &[Limit] {
            id.map_or(&[], |id| each.of(&id))
        }
        match of.split_once(':') {
            Some(("agent", id)) => each(&self.agent, AgentId::new(id)),
            Some(("channel", id)) => each(&self.channel, ChannelId::new(id)),
            Some(("department", id)) => each(&self.department, DepartmentId::new(id)),
            // What follows a slash is no part of a key's name.
            Some(("key", name)) if !name.contains('/') => self.key.of(&name.to_owned()),
            Some(("user", _)) => &self.user,
            Some(_) => &[],
            None if of == "global" => &self.global,
            None => &self.apart,
        }
    }
}

/// Scope, window and unit of a budget's name. A person's id may have slashes of its own.
fn parts(name: &str) -> Option<(&str, Window, Unit)> {
    let with = |unit: Unit| Some((name.strip_suffix(unit.as_str())?.strip_suffix('/')?, unit));
    let (rest, unit) = with(Unit::Tokens).or_else(|| with(Unit::Requests)).unwrap_or((name, Unit::Dollars));
    let (of, window) = rest.rsplit_once('/')?;
    Some((of, Window::parse(window)?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_store::Budget;
    use std::collections::BTreeMap;

    fn limit(text: &str) -> Limit {
        Limit::parse(text, Window::Day).unwrap()
    }

    fn budgets() -> Budgets {
        let hr = AgentId::new("hr").unwrap();
        let own = BTreeMap::from([(hr, vec![limit("5"), limit("9 requests/minute")])]);
        let agent = Each { all: vec![limit("20/week")], own };
        Budgets { agent, user: vec![limit("300 tokens/hour")], ..Budgets::default() }
    }

    #[test]
    fn a_name_means_one_budget_or_says_which_it_may_mean() {
        let budgets = budgets();
        let named = |name: &str| budgets.named(name).map(|(scope, limit)| (scope, limit.to_string()));
        let is = |scope: &str, shown: &str| Ok((scope.to_owned(), shown.to_owned()));
        assert_eq!(named("agent:sales"), is("agent:sales/week", "$20.00/week"));
        assert_eq!(named("agent:hr/minute/requests"), is("agent:hr/minute/requests", "9 requests/minute"));
        let several = ["agent:hr/day", "agent:hr/minute/requests"].map(str::to_owned).to_vec();
        assert_eq!(named("agent:hr"), Err(several));
        assert_eq!(named("user:web/U/1"), is("user:web/U/1/hour/tokens", "300 tokens/hour"));
        for nothing in ["global", "channel:web", "agent:hr/week", "agent:", "nonsense", "a:b/day", ""] {
            assert_eq!(named(nothing), Err(vec![]), "{nothing}");
        }
    }

    #[test]
    fn a_row_stands_with_its_limit_in_the_window_of_now() {
        let budgets = budgets();
        // 1970-01-02T03:04:05Z, a Friday.
        let now = Millis(((24 + 3) * 3_600 + 4 * 60 + 5) * 1_000);
        let row = |scope: &str, window_start, settled| BudgetRow {
            scope: scope.to_owned(),
            window_start: Millis(window_start),
            used: Budget { settled, reserved: 1 },
            raised: 2,
        };
        let (hour, day, monday) = (27 * 3_600_000, 86_400_000, -3 * 86_400_000);
        let rows = vec![
            row("agent:hr/day", day, 4_000_000_010),
            row("agent:sales/week", monday, 7),
            row("user:web/U1/hour/tokens", hour, 150),
            // An hour of last night, and what is no budget's name.
            row("user:web/U2/hour/tokens", day, 150),
            row("nonsense", day, 1),
            row("channel:web/day", day, 3),
        ];
        let stands = budgets.standing(rows, now);
        let shown: Vec<_> = stands
            .iter()
            .map(|one| (one.scope.as_str(), one.limit.map(|limit| limit.to_string()), one.percent()))
            .collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                ("agent:hr/day", text("$5.00"), Some(80)),
                ("agent:sales/week", text("$20.00"), Some(0)),
                ("user:web/U1/hour/tokens", text("300 tokens"), Some(50)),
                ("channel:web/day", None, None),
            ]
        );
        assert_eq!(stands[2].ends, Millis(28 * 3_600_000));
        assert_eq!(budgets.begun(now).len(), 5);
    }
}
