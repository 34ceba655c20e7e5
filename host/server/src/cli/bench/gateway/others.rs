//! How other gateways are started: as their documentation says, with nothing on that costs them time.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::super::super::Failure;
use super::load::Target;

/// Another gateway, as it is to be started.
pub(super) struct Peer<'a> {
    pub(super) program: &'a Path,
    pub(super) folder: &'a Path,
    /// The model.
    pub(super) provider: String,
    pub(super) address: SocketAddr,
    pub(super) key: &'a str,
}

/// How one is started, and asked.
pub(super) type Start = fn(&Peer<'_>) -> Result<(Command, Target), Failure>;

/// LiteLLM's proxy as its documentation starts it, without a database, with a worker for each core.
pub(super) fn litellm(peer: &Peer<'_>) -> Result<(Command, Target), Failure> {
    let config = peer.folder.join("config.yaml");
    let text = format!(
        "model_list:\n  - model_name: bench\n    litellm_params:\n      model: openai/model\n      api_base: {}\n      api_key: {}\ngeneral_settings:\n  master_key: {}\n",
        peer.provider, peer.key, peer.key
    );
    std::fs::write(&config, text)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(peer.program);
    command
        .arg("--config")
        .arg(&config)
        .args(["--host", "127.0.0.1", "--port", &peer.address.port().to_string()])
        .args(["--num_workers", &cores.to_string()])
        // Its list of prices comes with it; it need not look for a newer one.
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .current_dir(peer.folder);
    let target =
        Target { address: peer.address, model: "bench", key: peer.key.to_owned(), headers: Vec::new() };
    Ok((command, target))
}

/// Portkey's gateway; whom to ask it is told with each request.
pub(super) fn portkey(peer: &Peer<'_>) -> Result<(Command, Target), Failure> {
    let mut command = Command::new(peer.program);
    command
        .args(["--headless", &format!("--port={}", peer.address.port())])
        .env("TRUSTED_CUSTOM_HOSTS", "127.0.0.1,localhost")
        .current_dir(peer.folder);
    let headers =
        vec![("x-portkey-provider", "openai".to_owned()), ("x-portkey-custom-host", peer.provider.clone())];
    Ok((command, Target { address: peer.address, model: "model", key: peer.key.to_owned(), headers }))
}
