"""The official clients of OpenAI and Anthropic against a host with scripted models."""

import base64
import os
import struct
import sys
import tempfile
from pathlib import Path

import anthropic
import openai

from running import raises, serve, stop

KEY = "a-key-of-thirty-two-characters-at-least"
SCRIPT = """
[[rule]]
when = ["it rains"]
say = "Take an umbrella."
[[rule]]
when = ["weather"]
say = "I look."
call = "weather"
arguments = '{"city":"Bonn"}'
[[rule]]
when = ["slowly"]
say = "one two three four five six seven eight nine ten eleven twelve"
chunk_ms = 200
[[rule]]
when = ["broken"]
say = "one two three four five six"
fail = "cut"
[[rule]]
when = ["down"]
fail = "unavailable"
[default]
say = "Hello there, good day."
"""
CONFIG = """
[server]
public = "127.0.0.1:{public}"
admin = "127.0.0.1:{admin}"
[store]
url = "sqlite:data"
[provider.script]
kind = "scripted"
script = "answers.toml"
[provider.script.price.demo]
input = "1"
output = "1"
[tier.fast]
chain = ["script/demo"]
[plugin.assistant]
source = "builtin:assistant"
grants = ["models"]
[agent.support]
plugin = "assistant"
tier = "fast"
[api_key.app]
key = "env:APP_KEY"
tiers = ["fast"]
agents = ["support"]
embeddings = true
[api_key.poor]
key = "env:POOR_KEY"
tiers = ["fast"]
budget = "1 requests"
"""
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}


def check_openai(address: str) -> None:
    client = openai.OpenAI(base_url=address + "/v1", api_key=KEY, max_retries=0)
    said = lambda text, **more: client.chat.completions.create(
        model=more.pop("model", "fast"), messages=[{"role": "user", "content": text}], **more)
    whole = said("hi")
    assert whole.choices[0].message.content == "Hello there, good day." and whole.choices[0].finish_reason == "stop"
    assert whole.usage.prompt_tokens > 0 and whole.usage.total_tokens > 0
    chunks = list(said("hi", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    # A kept answer asked nobody.
    assert text == "Hello there, good day." and chunks[-1].usage.total_tokens == 0 and not chunks[-1].choices
    tools = [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}]
    asked = [{"role": "user", "content": "the weather?"}]
    for is_stream in (False, True):
        if is_stream:
            with client.chat.completions.stream(model="fast", messages=asked, tools=tools) as stream:
                message = stream.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(model="fast", messages=asked, tools=tools).choices[0].message
        call = message.tool_calls[0]
        assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Bonn"}')
    told = {"role": "tool", "tool_call_id": call.id, "content": "it rains"}
    calls = {"role": "assistant", "content": message.content, "tool_calls": [
        {"id": call.id, "type": "function", "function": {"name": "weather", "arguments": call.function.arguments}}]}
    after = client.chat.completions.create(model="fast", messages=asked + [calls, told], tools=tools)
    assert after.choices[0].message.content == "Take an umbrella."
    assert [model.id for model in client.models.list()] == ["fast", "agent:support", "embedding"]
    assert client.models.retrieve("fast").id == "fast"
    assert raises(openai.NotFoundError, lambda: said("hi", model="none")).code == "model_not_found"
    wrong = raises(openai.BadRequestError, lambda: said("hi", extra_body={"colour": 1}))
    assert (wrong.code, wrong.param) == ("unknown_parameter", "colour") and wrong.request_id
    raises(openai.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list())
    raises(openai.InternalServerError, lambda: said("down"))
    raises(openai.APIError, lambda: list(said("broken", stream=True)))
    poor = client.with_options(api_key=KEY + "-poor")
    ask = lambda text: poor.chat.completions.create(model="fast", messages=[{"role": "user", "content": text}])
    first = ask("hi")
    assert raises(openai.RateLimitError, lambda: ask("good day")).code == "insufficient_quota"
    # Nobody is asked for what is kept, and nothing paid.
    assert ask("hi").choices[0].message.content == first.choices[0].message.content
    stream = said("slowly", stream=True)
    next(iter(stream))
    stream.close()
    answer = said("hi", model="agent:support", user="ann")
    assert answer.choices[0].message.content == "Hello there, good day."
    parts = said("hi again", model="support", user="ann", stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "Hello there, good day."


def check_embeddings(address: str) -> None:
    client = openai.OpenAI(base_url=address + "/v1", api_key=KEY, max_retries=0)
    texts = ["Reset my password", "reset my password!", "canteen"]
    make = lambda texts, model="embedding", **more: client.embeddings.create(model=model, input=texts, **more)
    # Left to itself this client asks for base64, and unpacks it.
    packed, plain = make(texts), make(texts, encoding_format="float")
    vectors = [item.embedding for item in plain.data]
    assert [item.embedding for item in packed.data] == [[single(x) for x in vector] for vector in vectors]
    assert [len(vector) for vector in vectors] == [512] * 3 and [item.index for item in plain.data] == [0, 1, 2]
    like = lambda a, b: sum(x * y for x, y in zip(vectors[a], vectors[b]))
    assert like(0, 1) > 0.99 and like(0, 2) < 0.3, (like(0, 1), like(0, 2))
    raw = make("canteen", encoding_format="base64").data[0].embedding
    assert list(struct.unpack("<512f", base64.b64decode(raw))) == [single(x) for x in vectors[2]]
    assert make(texts, model="builtin:lexical").model == "builtin:lexical" and plain.usage.total_tokens == 0
    assert raises(openai.NotFoundError, lambda: make("x", model="fast")).code == "model_not_found"
    assert raises(openai.BadRequestError, lambda: make([[1, 2], [3]])).code == "invalid_type"
    assert "512 dimensions" in str(raises(openai.BadRequestError, lambda: make("x", dimensions=64)))
    poor = client.with_options(api_key=KEY + "-poor")
    raises(openai.NotFoundError, lambda: poor.embeddings.create(model="embedding", input="x"))


def single(number: float) -> float:
    """What is left of a number in 32 bits."""
    return struct.unpack("<f", struct.pack("<f", number))[0]


def check_anthropic(address: str) -> None:
    client = anthropic.Anthropic(base_url=address, api_key=KEY, max_retries=0)
    said = lambda text, **more: client.messages.create(
        model=more.pop("model", "fast"), max_tokens=100, messages=[{"role": "user", "content": text}], **more)
    whole = said("hi", system="Be kind.")
    assert whole.content[0].text == "Hello there, good day." and whole.stop_reason == "end_turn"
    assert whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0
    with client.messages.stream(model="fast", max_tokens=100, messages=[{"role": "user", "content": "hi"}]) as stream:
        assert "".join(stream.text_stream) == "Hello there, good day."
        assert stream.get_final_message().usage.output_tokens > 0
    tools = [{"name": "weather", "description": "tells the weather", "input_schema": TOOL}]
    asked = [{"role": "user", "content": "the weather?"}]
    with client.messages.stream(model="fast", max_tokens=100, messages=asked, tools=tools) as stream:
        streamed = stream.get_final_message()
    message = client.messages.create(model="fast", max_tokens=100, messages=asked, tools=tools)
    for one in (streamed, message):
        assert one.stop_reason == "tool_use" and one.content[-1].input == {"city": "Bonn"}
    told = {"type": "tool_result", "tool_use_id": message.content[-1].id, "content": "it rains"}
    asked += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [told]}]
    after = client.messages.create(model="fast", max_tokens=100, messages=asked, tools=tools)
    assert after.content[0].text == "Take an umbrella."
    assert [model.id for model in client.models.list()] == ["fast", "agent:support", "embedding"]
    assert client.models.retrieve("agent:support").id == "agent:support"
    raises(anthropic.NotFoundError, lambda: said("hi", model="none"))
    wrong = raises(anthropic.BadRequestError, lambda: said("hi", extra_body={"colour": 1}))
    assert "Extra inputs are not permitted" in str(wrong) and wrong.request_id
    raises(anthropic.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list())
    raises(anthropic.InternalServerError, lambda: said("down"))
    raises(anthropic.APIError, lambda: list(said("broken", stream=True)))
    stream = said("slowly", stream=True)
    next(iter(stream))
    stream.close()
    answer = said("hi", model="agent:support", metadata={"user_id": "bob"})
    assert answer.content[0].text == "Hello there, good day."


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "answers.toml").write_text(SCRIPT)
        keys = {"APP_KEY": KEY, "POOR_KEY": KEY + "-poor"}
        host, address = serve(os.path.abspath(sys.argv[1]), Path(folder), CONFIG, keys)
        try:
            check_openai(address)
            check_embeddings(address)
            print("== clients: openai", openai.__version__)
            check_anthropic(address)
            print("== clients: anthropic", anthropic.__version__)
        finally:
            stop(host)
        log = (Path(folder) / "log").read_text()
        assert KEY not in log, "a key is in the log"


if __name__ == "__main__":
    main()
