"""The LiteLLM proxy as the provider of a host: what it says, counts and refuses is read as it meant it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import openai

from running import free_port, raises, serve, start, stop

KEY = "a-key-of-thirty-two-characters-at-least"
PROXY_KEY = "sk-the-proxys-own-key-of-this-test"
SAYS = "Good day from afar; it rains here."
# The proxy's start takes long on a machine that is at work: it reads its own tables first.
PROXY_READY_S = 180
MODELS = {
    "good": SAYS,
    "limited": "litellm.RateLimitError",
    "down": "litellm.InternalServerError",
    "long": "litellm.ContextWindowExceededError",
    "broken": "Exception: mock_streaming_error",
    "vectors": [0.5, -0.25, 1.0],
}
CONFIG = """
[server]
public = "127.0.0.1:{{public}}"
admin = "127.0.0.1:{{admin}}"
[store]
url = "sqlite:data"
[egress]
allow_loopback = true
[cache]
enabled = false
{providers}
{tiers}
[embedding]
chain = ["good/vectors"]
[plugin.assistant]
source = "builtin:assistant"
grants = ["models"]
[agent.support]
plugin = "assistant"
tier = "good"
[api_key.app]
key = "env:APP_KEY"
tiers = [{names}]
embeddings = true
"""
# The proxy under a name for each thing that it may say: a provider that limits its rate is left alone with all its models.
PROVIDERS = {name: [name] for name in ("limited", "down", "long", "broken", "absent")}
PROVIDERS |= {"good": ["good", "vectors"], "stranger": ["good"]}
CHAINS = {name: [f"{name}/{models[0]}"] for name, models in PROVIDERS.items()}
CHAINS |= {f"over-{name}": [f"{name}/{name}", "good/good"] for name in ("limited", "down", "long", "absent")}
INPUT, OUTPUT = 10_000, 20_000  # billionths of a dollar for a token: the prices of `config`


def config(port: int) -> str:
    provider = '[provider.{name}]\nkind = "openai"\nurl = "http://127.0.0.1:{port}/v1"\nkey = "env:{key}"\n'
    price = '[provider.{name}.price.{model}]\ninput = "10"\noutput = "20"\n'
    providers = ""
    for name, models in PROVIDERS.items():
        key = "STRANGER_KEY" if name == "stranger" else "PROXY_KEY"
        providers += provider.format(name=name, port=port, key=key)
        providers += "".join(price.format(name=name, model=model) for model in models)
    tiers = "".join(f"[tier.{name}]\nchain = {json.dumps(chain)}\n" for name, chain in CHAINS.items())
    names = ", ".join(json.dumps(name) for name in CHAINS)
    return CONFIG.format(providers=providers, tiers=tiers, names=names)


def proxy(litellm: str, folder: Path) -> tuple[subprocess.Popen, int]:
    port = free_port()
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "none", "mock_response": says}}
              for name, says in MODELS.items()]
    # JSON is YAML, too. Without rest for models that failed, or the second question would meet another error.
    (folder / "models.yaml").write_text(json.dumps({
        "model_list": models,
        "general_settings": {"master_key": PROXY_KEY},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }))
    command = [litellm, "--config", "models.yaml", "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    # What models cost comes with the package; it is not asked for elsewhere.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder)}
    ready = f"http://127.0.0.1:{port}/health/liveliness"
    return start(command, folder / "proxy.log", ready, quiet, PROXY_READY_S), port


def client(address: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=address + "/v1", api_key=key, max_retries=0, timeout=60)


def nanos(dollars: str) -> int:
    whole, part = dollars.split(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0"))


def cost(usage) -> int:
    return usage.prompt_tokens * INPUT + usage.completion_tokens * OUTPUT


def check_answers(ours: openai.OpenAI, theirs: openai.OpenAI) -> int:
    """Whole and streamed, counted as the proxy counts; gives what both cost."""
    asked = {"model": "good", "messages": [{"role": "user", "content": "how is the weather?"}]}
    streamed = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    told = [chunk.usage for chunk in theirs.chat.completions.create(**streamed) if chunk.usage][-1]
    assert told.prompt_tokens > 1 and told.completion_tokens > 1, told
    raw = ours.chat.completions.with_raw_response.create(**asked)
    whole = raw.parse()
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (SAYS, "stop"), whole
    counts = lambda usage: (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    assert counts(whole.usage) == counts(told), (whole.usage, told)
    assert raw.headers["x-chela-model"] == "good/good"
    assert nanos(raw.headers["x-chela-cost"]) == cost(told), (raw.headers["x-chela-cost"], told)
    chunks = list(ours.chat.completions.create(**streamed))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(said) == SAYS and len(said) > 1, said
    assert counts(chunks[-1].usage) == counts(told), chunks[-1]
    return cost(whole.usage) + cost(chunks[-1].usage)


def check_failures(ours: openai.OpenAI) -> int:
    """What the proxy refuses has the class that it meant, and the next of a chain answers; gives what that cost."""
    ask = lambda model: ours.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "how is the weather?"}])
    for model, kind, code in [
        ("limited", openai.RateLimitError, "rate_limit_exceeded"),
        ("down", openai.InternalServerError, "overloaded"),
        ("broken", openai.InternalServerError, "overloaded"),
        ("long", openai.BadRequestError, "context_length_exceeded"),
        # Both are the operator's to mend, and told to nobody else.
        ("absent", openai.InternalServerError, None),
        ("stranger", openai.InternalServerError, None),
    ]:
        error = raises(kind, lambda: ask(model))
        assert error.code == code, (model, error.status_code, error.code)
        assert "litellm" not in str(error).lower(), error
    spent = 0
    for model in ("over-limited", "over-down", "over-long", "over-absent"):
        answer = ask(model)
        assert answer.headers["x-chela-model"] == "good/good", (model, answer.headers)
        assert answer.parse().choices[0].message.content == SAYS
        spent += nanos(answer.headers["x-chela-cost"])
    return spent


def check_vectors(ours: openai.OpenAI) -> int:
    raw = ours.embeddings.with_raw_response.create(model="vectors", input="how is the weather?")
    made = raw.parse()
    assert made.data[0].embedding == MODELS["vectors"], made
    # The proxy counts ten for whatever it makes up.
    assert made.usage.prompt_tokens == made.usage.total_tokens == 10, made.usage
    assert raw.headers["x-chela-model"] == "good/vectors"
    assert nanos(raw.headers["x-chela-cost"]) == 10 * INPUT, raw.headers["x-chela-cost"]
    return 10 * INPUT


def used(chela: str, folder: Path, scope: str) -> tuple[int, int]:
    """What the ledger says is settled and reserved of a budget, in billionths of a dollar."""
    told = subprocess.run([chela, "budget", "show", scope, "--config", "chela.toml", "--json"], cwd=folder,
                          capture_output=True, check=True, timeout=60, env={**os.environ, **KEYS})
    budgets = [one for one in json.loads(told.stdout)["budgets"] if one["scope"] == scope]
    assert len(budgets) == 1, told.stdout
    return budgets[0]["settled"]["amount"], budgets[0]["reserved"]["amount"]


def check_ledger(chela: str, folder: Path, spent: int) -> None:
    """Settlements are written behind the answers, within a moment."""
    until = time.monotonic() + 30
    while (settled := used(chela, folder, "key:app/day")[0]) != spent and time.monotonic() < until:
        time.sleep(0.2)
    assert settled == spent, (settled, spent)


KEYS = {"APP_KEY": KEY, "PROXY_KEY": PROXY_KEY, "STRANGER_KEY": "sk-nobody-knows-this-one"}


def main() -> None:
    chela, litellm = (os.path.abspath(path) for path in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (running, port), host = proxy(litellm, folder), None
        try:
            host, address = serve(chela, folder, config(port), KEYS)
            ours, theirs = client(address, KEY), client(f"http://127.0.0.1:{port}", PROXY_KEY)
            spent = check_answers(ours, theirs) + check_vectors(ours)
            check_ledger(chela, folder, spent)
            spent += check_failures(ours)
            # A stop gives back what was set aside. Who refused a prompt may have charged for it, so the ledger has more.
            stop(host)
            settled, reserved = used(chela, folder, "key:app/day")
            assert settled >= spent and reserved == 0, (settled, reserved, spent)
        finally:
            if host:
                stop(host)
            stop(running)
        log = (folder / "log").read_text()
        assert PROXY_KEY not in log and KEY not in log, "a key is in the log"
    print("== clients: litellm", version("litellm"))


if __name__ == "__main__":
    main()
