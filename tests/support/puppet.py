"""A compromised worker: a Python rule that runs the code in a request inside the worker."""

import base64
import textwrap
from pathlib import Path
from typing import Any

from tests.support.raw import RawClient

RULE = """
import base64, os, pwd, traceback

def route(request):
    code = request.header("x-code")
    if code is None:
        return {"respond": {"body": str(os.getpid())}}
    space = {}
    try:
        exec(base64.b64decode(code), space)
    except BaseException:
        space["said"] = traceback.format_exc()
    return {"respond": {"body": str(space.get("said"))}}
"""


def site(directory: Path, port: int, **more: Any) -> dict[str, Any]:
    """Return a site of one worker whose every request goes to the rule, written to `directory`."""
    (directory / "rules").mkdir(exist_ok=True)
    (directory / "rules" / "puppet.py").write_text(RULE)
    return {
        "workers": 1,
        "frontends": [{"listen": f"127.0.0.1:{port}"}],
        "backends": {"app": {"servers": ["127.0.0.1:1"]}},
        "routes": [{"python": {"function": "rules.puppet:route", "budget": "5s"}}],
        **more,
    }


def run(port: int, code: str) -> str:
    """Run `code` in the worker behind `port`, and return what it has assigned to `said`, or its traceback.

    "" if the worker is killed for it.
    """
    sent = base64.b64encode(textwrap.dedent(code).encode())
    with RawClient(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Code: " + sent + b"\r\n\r\n")
        try:
            return client.response().body.decode()
        except ConnectionError:
            return ""


def worker(port: int) -> int:
    """Return the process id of the worker that answers."""
    with RawClient(port) as client:
        return int(client.get().body)
