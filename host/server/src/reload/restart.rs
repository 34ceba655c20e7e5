//! What cannot change while the host runs: listeners and their bounds, the store, the way out. A new configuration that
//! says otherwise runs with the old values, and the keys are told.

use crate::config::{Config, Egress, PluginKind, Server, Store};

/// Takes over what cannot change; returns the keys that the file has other values for.
pub(super) fn keep(running: &Config, new: &mut Config) -> Vec<String> {
    let mut keys = server(&running.server, &new.server);
    keys.extend(store(&running.store, &new.store));
    keys.extend(egress(&running.egress, &new.egress));
    let admin_token = new.server.admin_token.take();
    new.server = Server { admin_token, ..running.server.clone() };
    new.store = running.store.clone();
    new.egress = running.egress.clone();
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

/// What the lease that holds until a restart forbids: a call that outlasts it would work for a conversation that is
/// another worker's by then.
///
/// # Errors
/// A sentence that names the key.
pub(super) fn check(config: &Config) -> Result<(), String> {
    let kinds = [("limits.router", &config.limits.router), ("limits.channel", &config.limits.channel)];
    let kinds = kinds.map(|(key, limits)| (key.to_owned(), limits.deadline));
    let plugins = config
        .plugins
        .iter()
        .filter(|(_, plugin)| matches!(plugin.kind, Some(PluginKind::Router | PluginKind::Channel)));
    let plugins = plugins.map(|(name, plugin)| (format!("plugin.{name}.limits"), plugin.limits.deadline));
    let lease = config.store.lease;
    match kinds.into_iter().chain(plugins).find(|(_, deadline)| *deadline >= lease) {
        Some((key, _)) => Err(format!(
            "chela.toml: `{key}.deadline_ms` must be shorter than `store.lease_s`, which is {} s until a restart",
            lease.as_secs()
        )),
        None => Ok(()),
    }
}

type Compared = Vec<(&'static str, bool)>;

// Each takes its table apart by name, so that a new key cannot be forgotten here.

fn server(old: &Server, new: &Server) -> Compared {
    let Server {
        public,
        admin,
        // Operators come and go while the host runs.
        admin_token: _,
        body_bytes_max,
        request_timeout,
        requests_max,
        rate_per_minute,
        rate_burst,
        sessions_per_hour,
        streams_per_client,
        log,
        drain,
        max_turns,
    } = old;
    vec![
        ("server.public", *public != new.public),
        ("server.admin", *admin != new.admin),
        ("server.body_bytes_max", *body_bytes_max != new.body_bytes_max),
        ("server.request_timeout_s", *request_timeout != new.request_timeout),
        ("server.requests_max", *requests_max != new.requests_max),
        ("server.rate_per_minute", *rate_per_minute != new.rate_per_minute),
        ("server.rate_burst", *rate_burst != new.rate_burst),
        ("server.sessions_per_hour", *sessions_per_hour != new.sessions_per_hour),
        ("server.streams_per_client", *streams_per_client != new.streams_per_client),
        ("server.log", *log != new.log),
        ("server.drain_s", *drain != new.drain),
        ("server.max_turns", *max_turns != new.max_turns),
    ]
}

fn store(old: &Store, new: &Store) -> Compared {
    let Store {
        folder,
        commit_batch_max,
        commit_queue_max,
        commit_wait,
        lease,
        readers,
        memory_value_bytes_max,
        memory_keys_max,
    } = old;
    vec![
        ("store.url", *folder != new.folder),
        ("store.commit_batch_max", *commit_batch_max != new.commit_batch_max),
        ("store.commit_queue_max", *commit_queue_max != new.commit_queue_max),
        ("store.commit_wait_s", *commit_wait != new.commit_wait),
        ("store.lease_s", *lease != new.lease),
        ("store.readers", *readers != new.readers),
        ("store.memory_value_bytes_max", *memory_value_bytes_max != new.memory_value_bytes_max),
        ("store.memory_keys_max", *memory_keys_max != new.memory_keys_max),
    ]
}

fn egress(old: &Egress, new: &Egress) -> Compared {
    let Egress {
        allow_loopback,
        allow_private,
        connect_timeout,
        first_byte_timeout,
        total_timeout,
        idle_timeout,
        response_bytes_max,
        in_flight_max,
        idle_connections_max,
    } = old;
    vec![
        ("egress.allow_loopback", *allow_loopback != new.allow_loopback),
        ("egress.allow_private", *allow_private != new.allow_private),
        ("egress.connect_timeout_s", *connect_timeout != new.connect_timeout),
        ("egress.first_byte_timeout_s", *first_byte_timeout != new.first_byte_timeout),
        ("egress.total_timeout_s", *total_timeout != new.total_timeout),
        ("egress.idle_timeout_s", *idle_timeout != new.idle_timeout),
        ("egress.response_bytes_max", *response_bytes_max != new.response_bytes_max),
        ("egress.in_flight_max", *in_flight_max != new.in_flight_max),
        ("egress.idle_connections_max", *idle_connections_max != new.idle_connections_max),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn load(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chela.toml");
        std::fs::write(
            &path,
            format!("{text}\n[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\n"),
        )
        .unwrap();
        let env = |name: &str| Some(format!("a-long-token-{name}"));
        let (mut config, _) = crate::config::load(&path, &env).unwrap();
        config.store.folder = "/data".into();
        config
    }

    #[test]
    fn what_needs_a_restart_is_kept_and_named() {
        let old = load("");
        let mut new = load(
            "[server]\npublic = \"127.0.0.1:9090\"\nlog = \"json\"\nadmin_token = \"env:NEW\"\n[store]\nlease_s = 30\n[egress]\nallow_loopback = true\n[budget]\nuser = \"3\"\n",
        );
        let keys = keep(&old, &mut new);
        assert_eq!(keys, ["server.public", "server.log", "store.lease_s", "egress.allow_loopback"]);
        assert_eq!((new.server.public, new.store.lease), (old.server.public, old.store.lease));
        assert!(!new.egress.allow_loopback);
        assert_eq!(new.server.admin_token.unwrap().expose_secret(), "a-long-token-NEW");
        assert_ne!(new.budget.user, old.budget.user, "the rest is the file's");
    }

    #[test]
    fn a_deadline_that_only_the_next_lease_allows_is_refused() {
        let old = load("");
        let deadline = |ms: u32| {
            let mut new = load(&format!("[store]\nlease_s = 60\n[limits.channel]\ndeadline_ms = {ms}\n"));
            keep(&old, &mut new);
            check(&new)
        };
        assert_eq!(deadline(14_999), Ok(()));
        let refused = deadline(15_000).unwrap_err();
        assert!(refused.contains("`limits.channel.deadline_ms`") && refused.contains("15 s"), "{refused}");
    }

    #[test]
    fn the_same_needs_none() {
        let old = load("[delivery]\ntries = 5\n");
        assert_eq!(keep(&old, &mut load("[delivery]\ntries = 6\n")), Vec::<String>::new());
    }
}
