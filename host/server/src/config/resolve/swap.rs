//! `swap`, and who may order it: `operator`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chela_types::TierId;
use secrecy::{ExposeSecret as _, SecretString};

use super::host::{days, seconds};
use super::{At, Resolver, dotted, size};
use crate::config::OWN_OPERATORS;
use crate::config::problem::{Code, Note};
use crate::config::raw::{self, Raw};
use crate::config::resolved::{Operator, Right, Swap};

/// Shortest token: with fewer characters it could be found by trying, at a rate that the admin listener serves.
const TOKEN_CHARS_MIN: usize = 16;

pub(super) fn swap(raw: &Raw) -> Swap {
    let raw = &raw.swap;
    Swap {
        auto: raw.reload == raw::Reload::Auto,
        poll: seconds(raw.poll_s),
        trial_calls: raw.trial_calls,
        watch: seconds(raw.watch_s),
        min_calls: raw.min_calls,
        min_failures: raw.min_failures,
        failure_percent: raw.failure_percent,
        latency_factor: raw.latency_factor,
        latency_floor: Duration::from_millis(raw.latency_floor_ms),
        drift_percent: raw.drift_percent,
        drift_min_calls: raw.drift_min_calls,
        shadow_in_flight: size(raw.shadow_in_flight),
        shadow_percent: raw.shadow_percent,
        shadow_models: raw.shadow_models,
        shadow_examples: size(raw.shadow_examples),
        promote_after: raw.promote_after,
        promote_differences_percent: raw.promote_differences_percent,
        keep: days(raw.keep_days),
    }
}

impl Resolver<'_> {
    /// Whoever may use the admin listener. `admin` is `server.admin_token`, with which no token may agree either.
    pub(super) fn operators(
        &mut self,
        raw: &Raw,
        admin: Option<&SecretString>,
    ) -> BTreeMap<String, Operator> {
        let mut operators = BTreeMap::<String, Operator>::new();
        for (name, operator) in &raw.operator {
            let at: At<'_> = &["operator", name, "token"];
            // Operators have no id of their own; their names are spelled as all names are.
            let is_name = self.operator_name(name).is_some();
            let rights = self.rights(name, &operator.rights);
            let token = self.secret(at, &operator.token).filter(|token| self.is_long(at, token));
            let Some(token) = token.filter(|_| is_name) else { continue };
            let others = operators.values().map(|other| &other.token).chain(admin);
            if others.into_iter().any(|other| other.expose_secret() == token.expose_secret()) {
                let message = format!("`{}` is another one's token too", dotted(at));
                let note = Note::new(Code::Duplicate, message, "the same token");
                self.fail(at, note.help("give each operator a token of his own: it says who he is"));
            }
            operators.insert(name.clone(), Operator { token, rights });
        }
        operators
    }

    fn operator_name(&mut self, name: &str) -> Option<TierId> {
        let at: At<'_> = &["operator", name];
        if OWN_OPERATORS.contains(&name) {
            let note = Note::new(Code::BadName, format!("`{name}` cannot be a name"), "reserved");
            self.fail_key(at, note.help("the history would not tell this operator from the host's own"));
            return None;
        }
        self.name(at)
    }

    fn rights(&mut self, name: &str, written: &[raw::Right]) -> BTreeSet<Right> {
        let mut rights = BTreeSet::new();
        for (index, right) in written.iter().enumerate() {
            let right = match right {
                raw::Right::Read => Right::Read,
                raw::Right::Content => Right::Content,
                raw::Right::Operate => Right::Operate,
            };
            if !rights.insert(right) {
                let at: At<'_> = &["operator", name, "rights", &index.to_string()];
                let message = format!("`operator.{name}` has the right `{}` twice", right.as_str());
                self.fail(at, Note::new(Code::Duplicate, message, "already in this list"));
            }
        }
        rights
    }

    /// Whether a token cannot be found by trying.
    pub(super) fn is_long(&mut self, at: At<'_>, token: &SecretString) -> bool {
        let is_long = token.expose_secret().chars().count() >= TOKEN_CHARS_MIN;
        if !is_long {
            let message = format!("the token of `{}` could be guessed", dotted(at));
            let label = format!("shorter than {TOKEN_CHARS_MIN} characters");
            self.fail(
                at,
                Note::new(Code::SecretShort, message, label).help("make one: `openssl rand -hex 24`"),
            );
        }
        is_long
    }
}
