//! Budgets: how they stand, and more of one for a while.

use std::time::Duration;

use chela_gateway::{Limit, Standing};
use chela_store::Raise;
use chela_types::{Millis, Quantity};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::extract::Json;
use super::rights::{Allowed, Operate, Read};

/// Budgets in one answer at most.
pub(crate) const BUDGETS_MAX: usize = 10_000;
/// Longest time of a raise.
const RAISE_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// More of a budget for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaiseBudget {
    /// Its name: `agent:support`, or `agent:support/day` where the scope has several.
    pub scope: String,
    /// How much more, as in the configuration: `10.00`, `5000 tokens`, `20 requests`.
    pub by: String,
    /// For how long, in seconds.
    pub seconds: u64,
    /// Why.
    pub why: String,
}

/// A raise that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The budget.
    pub scope: String,
    /// How much more.
    pub by: Quantity,
    /// Until when.
    pub until: Millis,
}

/// Every budget of which something is used in its window.
pub(super) async fn list(admin: Allowed<Read>) -> Result<Json<Vec<Standing>>, Error> {
    let now = admin.clock.now();
    let gateway = admin.engine.gateway();
    let budgets = gateway.budgets();
    let rows = admin.store.budgets(&admin.tenant, (&budgets.begun(now), now), BUDGETS_MAX).await?;
    Ok(Json(budgets.standing(rows, now)))
}

/// More of one for a while, by whoever may order that.
pub(super) async fn raise(
    admin: Allowed<Operate>,
    Json(asked): Json<RaiseBudget>,
) -> Result<Json<Raised>, Error> {
    let gateway = admin.engine.gateway();
    let (scope, limit) = gateway.budgets().named(&asked.scope).map_err(|several| {
        Error::Invalid(match several.is_empty() {
            true => format!("nothing limits `{}`, so it cannot be raised", asked.scope),
            false => format!("`{}` has several budgets: {}", asked.scope, several.join(", ")),
        })
    })?;
    let is_there = |agent: &str| admin.engine.agents().iter().any(|(id, _)| id.as_str() == agent);
    if scope.strip_prefix("agent:").is_some_and(|of| !of.split('/').next().is_some_and(is_there)) {
        return Err(Error::Invalid(format!("there is no agent that `{scope}` could be of")));
    }
    let by = amount(&asked.by, limit).ok_or_else(|| {
        let unit = limit.most.unit.as_str();
        Error::Invalid(format!("`{scope}` is in {unit}, and `{}` is no amount of them", asked.by))
    })?;
    if asked.seconds == 0 || asked.seconds > RAISE_MAX.as_secs() {
        return Err(Error::Invalid("a raise lasts from one second to a year".to_owned()));
    }
    if asked.why.trim().is_empty() {
        return Err(Error::Invalid("a raise needs a reason".to_owned()));
    }
    let millis = i64::try_from(asked.seconds * 1_000).unwrap_or(i64::MAX);
    let until = Millis(admin.clock.now().0.saturating_add(millis));
    let raised = Raised { scope, by, until };
    let Raised { scope, .. } = raised.clone();
    let raise = Raise { scope, by, until, who: admin.who().0, why: asked.why };
    admin.store.raise_budget(&admin.tenant, raise).await?;
    Ok(Json(raised))
}

/// So much of a limit's unit.
fn amount(text: &str, limit: Limit) -> Option<Quantity> {
    let by = Limit::parse(text, limit.window)?;
    // What a raise lasts is said apart.
    (!text.contains('/') && by.most.unit == limit.most.unit).then_some(by.most)
}
