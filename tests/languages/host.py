"""A running host, and what is around it: a browser at its web chat, a signed sender, a platform that gets answers."""

import hashlib
import hmac
import http.client
import json
import os
import queue
import re
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHELA = os.environ["CHELA"]
#: Interpreters take seconds to compile, on a busy machine many.
READY_S = 300
ANSWER_S = 60
SECRET = "a secret of thirty-two characters"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def chela(folder: Path, *arguments: str) -> tuple[bool, str]:
    """Runs a command to its end: whether it went well, and everything that it said."""
    done = subprocess.run([CHELA, *arguments], cwd=folder, env=environment(), capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "SHARED": SECRET, "TOKEN": "a token of thirty-two characters."}


class Host:
    """`chela up` in a folder. The folder is kept: what is prepared there once is not compiled again."""

    def __init__(self, folder: Path, configuration: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        listeners = f'[server]\npublic = "127.0.0.1:{self.port}"\nadmin = "127.0.0.1:{free_port()}"\n'
        (folder / "chela.toml").write_text(listeners + configuration)
        self.log = (folder / "up.log").open("w+")
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        output = {"stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen([CHELA, "up"], cwd=self.folder, env=environment(), **output)
        began = time.monotonic()
        while time.monotonic() < began + READY_S:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        self.log.seek(0)
        raise AssertionError(f"the host does not come up:\n{self.log.read()}")

    def down(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(60)
        self.log.close()

    def turn(self, text: str) -> dict:
        """What the host tells of the newest turn."""
        well, said = chela(self.folder, "turn", "list", "--json", "--limit", "1")
        assert well, said
        return json.loads(said)[0] | {"asked": text}

    def signed(self, channel: str, body: dict) -> tuple[int, str]:
        """Posts to a channel that checks signatures, as its platform does."""
        raw, at = json.dumps(body), str(int(time.time()))
        signature = hmac.new(SECRET.encode(), f"{at}.{raw}".encode(), hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "x-timestamp": at, "x-signature": f"sha256={signature}"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)) as connection:
            connection.request("POST", f"/channels/{channel}", raw, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()


class Browser:
    """A session of a web chat."""

    def __init__(self, host: Host, channel: str) -> None:
        self.host, self.path = host, f"/channels/{channel}"
        self.headers = {"origin": f"http://127.0.0.1:{host.port}", "content-type": "application/json"}
        _, cookie = self.post("session", None)
        self.headers["cookie"] = (cookie or "").split(";")[0]

    def post(self, what: str, body: object) -> tuple[int, str | None]:
        """The status, and the cookie that is set."""
        with closing(self.connection()) as connection:
            connection.request("POST", f"{self.path}/{what}", json.dumps(body), self.headers)
            response = connection.getresponse()
            return response.status, response.getheader("set-cookie")

    def ask(self, text: str) -> tuple[list[str], dict]:
        """The drafts that are shown, and the answer."""
        with closing(self.connection()) as connection:
            connection.request("GET", f"{self.path}/events", headers=self.headers)
            with connection.getresponse() as events:
                status, _ = self.post("messages", {"id": f"{time.time_ns()}", "text": text})
                assert status == 200, status
                return heard(events, text)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.host.port, timeout=ANSWER_S)


def heard(events: http.client.HTTPResponse, text: str) -> tuple[list[str], dict]:
    """The drafts and the answer that follow on `text`; what an earlier answer said is passed over."""
    drafts, said = [], False
    for kind, event in read(events):
        if event.get("kind") == "said":
            said = event["text"] == text
        elif said and kind == "draft":
            drafts.append(event["text"])
        elif said:
            return drafts, event
    raise AssertionError("the stream ended without an answer")


def read(events: http.client.HTTPResponse):
    """Kind and data of each event of a stream."""
    kind = "message"
    for line in events:
        name, _, value = line.decode().rstrip("\n").partition(":")
        if name == "event":
            kind = value.strip()
        elif name == "data":
            yield kind, json.loads(value)
            kind = "message"


class Platform:
    """Gets what a channel sends."""

    def __init__(self) -> None:
        self.posts: queue.Queue[tuple[str, dict]] = queue.Queue()
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                posts.put((self.path, json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def imports(folder: Path, plugin: Path) -> set[str]:
    """What a component imports, as `chela plugin inspect` tells."""
    well, said = chela(folder, "plugin", "inspect", str(plugin))
    assert well, said
    return set(re.findall(r"^ +(\S+)@0", said, re.MULTILINE))
