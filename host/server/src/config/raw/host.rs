//! The tables about the process itself: `server`, `store`, `egress`, `delivery`, `limits`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::resolved;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Log {
    /// For people.
    Pretty,
    /// One JSON object on each line.
    Json,
}

/// Listeners, log and shutdown of this process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Server {
    /// Address of the public listener: webhooks and web chat.
    #[schemars(extend("format" = "address"))]
    pub(in crate::config) public: String,
    /// Address of the admin listener: metrics, turns, status. A loopback address unless `admin_allow_public` says otherwise.
    #[schemars(extend("format" = "address"))]
    pub(in crate::config) admin: String,
    /// Allows an admin address that other machines can reach.
    pub(in crate::config) admin_allow_public: bool,
    /// Token for the admin listener, of at least 16 characters, with every right. Without it the host makes one and keeps it in its data folder. Others with fewer rights: `[operator.NAME]`.
    #[schemars(extend("format" = "secret"))]
    pub(in crate::config) admin_token: Option<String>,
    /// Largest body of a request.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub(in crate::config) body_bytes_max: u64,
    /// Time for a request to arrive and be answered. Streams of the web chat are exempt.
    #[schemars(range(min = 1, max = 300))]
    pub(in crate::config) request_timeout_s: u64,
    /// Requests handled at once; one more is answered with 503 and Retry-After. Together with `max_turns` at most 9936.
    #[schemars(range(min = 1, max = 9_935))]
    pub(in crate::config) requests_max: u32,
    /// Requests of one client address in a minute.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) rate_per_minute: u32,
    /// Requests of one client address at once, on top of the rate.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) rate_burst: u32,
    /// Web chats that one client address may begin: so many at once, and as many again in each hour. Each counts as a
    /// person of its own, and sessions do not end: only `[budget] global` bounds what an address with saved ones can
    /// spend.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) sessions_per_hour: u32,
    /// Event streams of the web chat that one client address may have open.
    #[schemars(range(min = 1, max = 100_000))]
    pub(in crate::config) streams_per_client: u32,
    /// How log lines are written. The host's own never hold what people said.
    pub(in crate::config) log: Log,
    /// Time for turns to end when the process is told to stop; the others go on after the next start.
    #[schemars(range(min = 1, max = 3600))]
    pub(in crate::config) drain_s: u64,
    /// Turns worked on at once. The others wait in the store. Together with `requests_max` at most 9936.
    #[schemars(range(min = 1, max = 9_935))]
    pub(in crate::config) max_turns: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            public: "127.0.0.1:8080".into(),
            admin: "127.0.0.1:8081".into(),
            admin_allow_public: false,
            admin_token: None,
            body_bytes_max: 1_048_576,
            request_timeout_s: 30,
            requests_max: 512,
            rate_per_minute: 1_200,
            rate_burst: 200,
            sessions_per_hour: 30,
            streams_per_client: 256,
            log: Log::Pretty,
            drain_s: 20,
            max_turns: 256,
        }
    }
}

/// Where messages, answers and money are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Store {
    /// `sqlite:FOLDER`, the data folder, seen from the folder in which this file is named. It is made if it is not there.
    #[schemars(extend("format" = "store"))]
    pub(in crate::config) url: String,
    /// Operations that one commit holds at most.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) commit_batch_max: u32,
    /// Operations that wait for a commit at most; one more waits at the door.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) commit_queue_max: u32,
    /// How long an operation may wait for a place in that queue.
    #[schemars(range(min = 1, max = 60))]
    pub(in crate::config) commit_wait_s: u64,
    /// How long a worker holds a conversation without renewing it. After a crash another takes over when this has passed.
    #[schemars(range(min = 3, max = 300))]
    pub(in crate::config) lease_s: u64,
    /// Connections that only read.
    #[schemars(range(min = 1, max = 64))]
    pub(in crate::config) readers: u32,
    /// Largest value that an agent may remember under one key.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub(in crate::config) memory_value_bytes_max: u64,
    /// Keys that may be remembered for one agent, person or conversation.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) memory_keys_max: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: "sqlite:chela-data".into(),
            commit_batch_max: 256,
            commit_queue_max: 4_096,
            commit_wait_s: 5,
            lease_s: 15,
            readers: 4,
            memory_value_bytes_max: 16_384,
            memory_keys_max: 1_000,
        }
    }
}

/// How long what people said is kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Retention {
    /// Days after a turn has ended for which what was said and answered in it is kept, with the journal of its plugins;
    /// so long it can be run again. Without this key: for ever. Its times, decisions, cost and outcome stay, and what
    /// agents remember.
    #[schemars(range(min = 1, max = 3_650))]
    pub(in crate::config) words_days: Option<u32>,
}

/// What this process may call over the network.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Egress {
    /// Allows calls to this machine (127.0.0.0/8, ::1, localhost): for model servers of one's own and for tests.
    pub(in crate::config) allow_loopback: bool,
    /// Allows calls to private networks (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7).
    pub(in crate::config) allow_private: bool,
    /// Time to connect, TLS included.
    #[schemars(range(min = 1, max = 60))]
    pub(in crate::config) connect_timeout_s: u64,
    /// Time until an answer begins.
    #[schemars(range(min = 1, max = 600))]
    pub(in crate::config) first_byte_timeout_s: u64,
    /// Time for a whole call. Model providers have their own.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) total_timeout_s: u64,
    /// Silence that ends a call.
    #[schemars(range(min = 1, max = 600))]
    pub(in crate::config) idle_timeout_s: u64,
    /// Largest response, streams included; a model's answer that comes in pieces may have 256 MiB around its text.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub(in crate::config) response_bytes_max: u64,
    /// Calls at once; more wait.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) in_flight_max: u32,
    /// Idle connections kept for each host.
    #[schemars(range(min = 0, max = 1_000))]
    pub(in crate::config) idle_connections_max: u32,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            allow_loopback: false,
            allow_private: false,
            connect_timeout_s: 5,
            first_byte_timeout_s: 30,
            total_timeout_s: 300,
            idle_timeout_s: 30,
            response_bytes_max: 8_388_608,
            in_flight_max: 16_384,
            idle_connections_max: 64,
        }
    }
}

/// How often and how long an answer is tried.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Delivery {
    /// Tries that fail by a plugin's fault before a turn is a dead letter; as many again for its answer.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) tries: u32,
    /// Crashes of the host in a turn before it is a dead letter; as many again in the delivery of its answer.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) crash_tries: u32,
    /// Sends of one answer of which nobody knows whether the platform has it, before it is given up. After the
    /// second the pauses grow beyond `backoff_max_s`.
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) unknown_tries: u32,
    /// How long a turn waits for what is down before it is a dead letter; as long again its answer.
    #[schemars(range(min = 1, max = 720))]
    pub(in crate::config) max_wait_h: u64,
    /// First pause before the next try; each further one is longer.
    #[schemars(range(min = 1, max = 3_600))]
    pub(in crate::config) backoff_min_s: u64,
    /// Longest pause before the next try.
    #[schemars(range(min = 1, max = 86_400))]
    pub(in crate::config) backoff_max_s: u64,
    /// Requests to the platform that one answer may take.
    #[schemars(range(min = 1, max = 1_000))]
    pub(in crate::config) steps_max: u32,
    /// What the person is told when a turn became a dead letter.
    #[schemars(length(min = 1, max = 2_000))]
    pub(in crate::config) notice: String,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            tries: 3,
            crash_tries: 10,
            unknown_tries: 10,
            max_wait_h: 24,
            backoff_min_s: 1,
            backoff_max_s: 300,
            steps_max: 32,
            notice:
                "Sorry, we could not answer this message. Please try again later, or reach us another way."
                    .into(),
        }
    }
}

/// What one call of a plugin may use, for each kind of plugin.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Limits {
    /// Limits of a router's call.
    pub(in crate::config) router: KindLimits,
    /// Limits of an agent's call. Its time is mostly the model's.
    pub(in crate::config) agent: KindLimits,
    /// Limits of a channel's call.
    pub(in crate::config) channel: KindLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            router: KindLimits::of(&resolved::Limits::ROUTER),
            agent: KindLimits::of(&resolved::Limits::AGENT),
            channel: KindLimits::of(&resolved::Limits::CHANNEL),
        }
    }
}

/// What one call may use. A key that is left out has the default of its kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct KindLimits {
    /// Memory.
    #[schemars(range(min = 65_536, max = 268_435_456))]
    pub(in crate::config) memory_bytes: Option<u64>,
    /// Elements of all tables together.
    #[schemars(range(min = 1, max = 50_000))]
    pub(in crate::config) table_elements: Option<u32>,
    /// Time of one call, the host's part included. An agent's is longer than `total_timeout_s` of every provider it asks.
    #[schemars(range(min = 1, max = 7_200_000))]
    pub(in crate::config) deadline_ms: Option<u64>,
    /// Processor time of one call. Waiting costs none.
    #[schemars(range(min = 1, max = 600_000))]
    pub(in crate::config) cpu_ms: Option<u64>,
    /// Calls from the plugin to the host.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) host_calls: Option<u32>,
    /// Lines that one call may write into the log.
    #[schemars(range(min = 0, max = 100_000))]
    pub(in crate::config) log_lines: Option<u32>,
    /// Bytes of all these lines together.
    #[schemars(range(min = 0, max = 16_777_216))]
    pub(in crate::config) log_bytes: Option<u64>,
    /// Bytes that go into one call: its arguments and what its host calls return, all together.
    #[schemars(range(min = 1_024, max = 67_108_864))]
    pub(in crate::config) input_bytes: Option<u64>,
    /// Bytes that come out of one call in one crossing: its result, or the arguments of a host call.
    #[schemars(range(min = 1_024, max = 67_108_864))]
    pub(in crate::config) output_bytes: Option<u64>,
    /// Core instances that the component is made of.
    #[schemars(range(min = 1, max = 64))]
    pub(in crate::config) instances: Option<u32>,
    /// Handles that the plugin may hold at once: of streams, of clocks, of its own.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) resources: Option<u32>,
}

impl KindLimits {
    fn of(limits: &resolved::Limits) -> Self {
        Self {
            memory_bytes: Some(limits.memory_bytes as u64),
            table_elements: u32::try_from(limits.table_elements).ok(),
            deadline_ms: u64::try_from(limits.deadline.as_millis()).ok(),
            cpu_ms: u64::try_from(limits.cpu.as_millis()).ok(),
            host_calls: Some(limits.host_calls),
            log_lines: Some(limits.log_lines),
            log_bytes: Some(limits.log_bytes as u64),
            input_bytes: Some(limits.input_bytes as u64),
            output_bytes: Some(limits.output_bytes as u64),
            instances: u32::try_from(limits.instances).ok(),
            resources: u32::try_from(limits.resources).ok(),
        }
    }
}
