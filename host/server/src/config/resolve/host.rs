//! `server`, `store`, `egress`, `delivery`, `limits`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chela_sandbox::pool;
use chela_types::{AgentId, PluginId, TierId};

use super::{At, Resolver, dotted, size};
use crate::config::problem::{Code, Note};
use crate::config::raw::{self, Raw};
use crate::config::resolved::{
    Agent, Delivery, Egress, KindLimits, Limits, Log, Plugin, Retention, Server, Store, Tier,
};

impl Resolver<'_> {
    pub(super) fn server(&mut self, raw: &Raw) -> Option<Server> {
        let raw = &raw.server;
        let public = self.address(&["server", "public"], &raw.public);
        let admin = self.address(&["server", "admin"], &raw.admin);
        let admin_token =
            raw.admin_token.as_deref().and_then(|text| self.secret(&["server", "admin_token"], text));
        if let Some(token) = &admin_token {
            self.is_long(&["server", "admin_token"], token);
        }
        if admin.is_some_and(|admin| !admin.ip().is_loopback()) && !raw.admin_allow_public {
            let message = "the admin listener would be reachable from other machines";
            let note = Note::new(Code::AdminPublic, message, "not a loopback address");
            let help = "use `127.0.0.1:8081`, or set `admin_allow_public = true` if this is meant";
            self.fail(&["server", "admin"], note.help(help));
        }
        if let Some(label) = public.zip(admin).and_then(clash) {
            let note = Note::new(Code::Duplicate, "both listeners have the same address", label);
            self.fail(&["server", "admin"], note.help("give the admin listener a port of its own"));
        }
        self.at_once(raw);
        Some(Server {
            public: public?,
            admin: admin?,
            admin_token,
            body_bytes_max: size(raw.body_bytes_max),
            request_timeout: seconds(raw.request_timeout_s),
            requests_max: size(raw.requests_max),
            rate_per_minute: raw.rate_per_minute,
            rate_burst: raw.rate_burst,
            sessions_per_hour: raw.sessions_per_hour,
            streams_per_client: size(raw.streams_per_client),
            log: match raw.log {
                raw::Log::Pretty => Log::Pretty,
                raw::Log::Json => Log::Json,
            },
            drain: seconds(raw.drain_s),
            max_turns: size(raw.max_turns),
        })
    }

    /// Each turn and each request may need a live plugin, and a process has room for so many.
    fn at_once(&mut self, server: &raw::Server) {
        let (turns, requests): (At<'_>, At<'_>) = (&["server", "max_turns"], &["server", "requests_max"]);
        let most = pool::INSTANCES_MAX - pool::SPARE;
        let both = size(server.max_turns).saturating_add(size(server.requests_max));
        if both > most {
            let message =
                format!("`{}` and `{}` together must be at most {most}", dotted(turns), dotted(requests));
            let place = if self.document.is_written(turns) { turns } else { requests };
            let note = Note::new(Code::WrongValue, message, format!("{both} together"));
            self.fail(place, note.help("turns that are not worked on wait in the store; nothing is lost"));
        }
    }

    fn address(&mut self, at: At<'_>, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            let message = format!("`{}` must be an address with a port", dotted(at));
            let note = Note::new(Code::WrongValue, message, "not an address");
            self.fail(at, note.help("numbers, not names: `127.0.0.1:8080`, `0.0.0.0:8080` or `[::]:8080`"));
        }
        address
    }

    pub(super) fn store(&mut self, raw: &Raw) -> Option<Store> {
        let raw = &raw.store;
        let at: At<'_> = &["store", "url"];
        let folder = match raw.url.split_once(':') {
            Some(("sqlite", folder)) => {
                self.path_in(self.home, at, folder.strip_prefix("//").unwrap_or(folder))
            }
            Some(("postgres" | "postgresql", _)) => {
                let note = Note::new(Code::NotYetServed, "PostgreSQL is not served yet", "not yet");
                self.fail(at, note.help("use a data folder on this machine: `url = \"sqlite:chela-data\"`"));
                None
            }
            _ => {
                let note = Note::new(Code::WrongValue, "`store.url` names no known store", "unknown store");
                self.fail(at, note.help("write `sqlite:FOLDER`"));
                None
            }
        };
        Some(Store {
            folder: folder?,
            commit_batch_max: size(raw.commit_batch_max),
            commit_queue_max: size(raw.commit_queue_max),
            commit_wait: seconds(raw.commit_wait_s),
            lease: seconds(raw.lease_s),
            readers: size(raw.readers),
            memory_value_bytes_max: size(raw.memory_value_bytes_max),
            memory_keys_max: size(raw.memory_keys_max),
        })
    }

    pub(super) fn egress(&mut self, raw: &Raw) -> Egress {
        let raw = &raw.egress;
        let times = [
            ("connect_timeout_s", raw.connect_timeout_s, "first_byte_timeout_s", raw.first_byte_timeout_s),
            ("first_byte_timeout_s", raw.first_byte_timeout_s, "total_timeout_s", raw.total_timeout_s),
            ("idle_timeout_s", raw.idle_timeout_s, "total_timeout_s", raw.total_timeout_s),
        ];
        for (key, time, outer, long) in times {
            self.within((&["egress", key], time), (&["egress", outer], long));
        }
        Egress {
            allow_loopback: raw.allow_loopback,
            allow_private: raw.allow_private,
            connect_timeout: seconds(raw.connect_timeout_s),
            first_byte_timeout: seconds(raw.first_byte_timeout_s),
            total_timeout: seconds(raw.total_timeout_s),
            idle_timeout: seconds(raw.idle_timeout_s),
            response_bytes_max: size(raw.response_bytes_max),
            in_flight_max: size(raw.in_flight_max),
            idle_connections_max: size(raw.idle_connections_max),
        }
    }

    pub(super) fn delivery(&mut self, raw: &Raw) -> Delivery {
        let raw = &raw.delivery;
        self.within(
            (&["delivery", "backoff_min_s"], raw.backoff_min_s),
            (&["delivery", "backoff_max_s"], raw.backoff_max_s),
        );
        let max_wait = seconds(raw.max_wait_h.saturating_mul(3_600));
        self.within(
            (&["delivery", "backoff_max_s"], raw.backoff_max_s),
            (&["delivery", "max_wait_h"], max_wait.as_secs()),
        );
        if raw.notice.trim().is_empty() {
            let note = Note::new(Code::WrongValue, "`delivery.notice` must say something", "empty");
            self.fail(&["delivery", "notice"], note);
        }
        Delivery {
            tries: raw.tries,
            crash_tries: raw.crash_tries,
            unknown_tries: raw.unknown_tries,
            max_wait,
            backoff_min: seconds(raw.backoff_min_s),
            backoff_max: seconds(raw.backoff_max_s),
            steps_max: size(raw.steps_max),
            notice: raw.notice.clone(),
        }
    }

    /// One time must not be longer than another, both in seconds.
    pub(super) fn within(&mut self, (at, short): (At<'_>, u64), (outer, long): (At<'_>, u64)) {
        if short <= long {
            return;
        }
        let message = format!("`{}` must not be longer than `{}`", dotted(at), dotted(outer));
        let label = format!("{short} s, but the other is {long} s");
        // Shown where something is written: one of the two may be a default.
        let place = if self.document.is_written(at) { at } else { outer };
        self.fail(place, Note::new(Code::TimeoutConflict, message, label));
    }

    /// Routers and channels translate: they must end well within a lease. An agent may wait for a model
    /// longer than that, because its lease is renewed while it runs.
    pub(super) fn limits(&mut self, raw: &Raw) -> KindLimits {
        let limits = KindLimits {
            router: over(&raw.limits.router, &Limits::ROUTER),
            agent: over(&raw.limits.agent, &Limits::AGENT),
            channel: over(&raw.limits.channel, &Limits::CHANNEL),
        };
        for (kind, deadline) in [("router", limits.router.deadline), ("channel", limits.channel.deadline)] {
            self.within_lease(raw, &["limits", kind, "deadline_ms"], deadline);
        }
        limits
    }

    /// A call that outlasts the lease would work for a conversation that is another worker's by then.
    pub(super) fn within_lease(&mut self, raw: &Raw, at: At<'_>, deadline: Duration) {
        let lease = seconds(raw.store.lease_s);
        if deadline >= lease {
            let message = format!("`{}` must be shorter than `store.lease_s`", dotted(at));
            let label = format!("{} ms, but the lease is {} s", deadline.as_millis(), lease.as_secs());
            self.fail(at, Note::new(Code::TimeoutConflict, message, label));
        }
    }

    /// An agent outwaits its models: a provider that uses all of its time fails as a provider does, with the next of
    /// the chain to follow, and not as an agent whose time was over.
    pub(super) fn patience(
        &mut self,
        raw: &Raw,
        (plugins, tiers): (&BTreeMap<PluginId, Plugin>, &BTreeMap<TierId, Tier>),
        agents: &BTreeMap<AgentId, Agent>,
    ) {
        for agent in agents.values() {
            let Some(plugin) = plugins.get(&agent.plugin).filter(|it| it.grants.contains("models")) else {
                continue;
            };
            let chains = agent.tiers_allowed.iter().filter_map(|tier| tiers.get(tier));
            for model in chains.flat_map(|tier| &tier.chain) {
                let Some(provider) = raw.provider.get(&model.provider) else { continue };
                if seconds(provider.total_timeout_s) >= plugin.limits.deadline {
                    let times = (provider.total_timeout_s, plugin.limits.deadline);
                    self.impatient(agent.plugin.as_str(), &model.provider, times);
                }
            }
        }
    }

    /// Shown where something is written: each of the times may be a default.
    fn impatient(&mut self, plugin: &str, provider: &str, (total_s, deadline): (u64, Duration)) {
        let own: At<'_> = &["plugin", plugin, "limits", "deadline_ms"];
        let kind: At<'_> = &["limits", "agent", "deadline_ms"];
        let total: At<'_> = &["provider", provider, "total_timeout_s"];
        let deadline_at = if self.document.is_written(own) { own } else { kind };
        let place = if self.document.is_written(deadline_at) { deadline_at } else { total };
        let message = format!("`{}` must be shorter than `{}`", dotted(total), dotted(deadline_at));
        let label = format!("{total_s} s for the model, {} ms for the agent", deadline.as_millis());
        self.fail(place, Note::new(Code::TimeoutConflict, message, label));
    }
}

/// Why two listeners cannot both be opened. Port 0 is a free one each time.
fn clash((public, admin): (SocketAddr, SocketAddr)) -> Option<&'static str> {
    let same_port = public.port() == admin.port() && admin.port() != 0;
    match same_port {
        true if public.ip() == admin.ip() => Some("same as `public`"),
        // Not by the families: where IPv6 sockets take IPv4 as well, `[::]` holds 127.0.0.1 too.
        true if public.ip().is_unspecified() => Some("`public` takes this port of every address"),
        true if admin.ip().is_unspecified() => Some("takes the port of `public` too"),
        _ => None,
    }
}

/// Limits as written, above others.
pub(super) fn over(raw: &raw::KindLimits, kind: &Limits) -> Limits {
    Limits {
        memory_bytes: raw.memory_bytes.map_or(kind.memory_bytes, size),
        table_elements: raw.table_elements.map_or(kind.table_elements, size),
        deadline: raw.deadline_ms.map_or(kind.deadline, Duration::from_millis),
        cpu: raw.cpu_ms.map_or(kind.cpu, Duration::from_millis),
        host_calls: raw.host_calls.unwrap_or(kind.host_calls),
        log_lines: raw.log_lines.unwrap_or(kind.log_lines),
        log_bytes: raw.log_bytes.map_or(kind.log_bytes, size),
        input_bytes: raw.input_bytes.map_or(kind.input_bytes, size),
        output_bytes: raw.output_bytes.map_or(kind.output_bytes, size),
        instances: raw.instances.map_or(kind.instances, size),
        resources: raw.resources.map_or(kind.resources, size),
    }
}

/// `retention`.
pub(super) fn retention(raw: &Raw) -> Retention {
    Retention { words: raw.retention.words_days.map(days) }
}

/// Days of 24 hours as a duration.
pub(super) fn days(count: u32) -> Duration {
    Duration::from_secs(24 * 60 * 60) * count
}

/// Seconds as a duration.
pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
