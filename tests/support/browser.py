"""Chromium without a window, driven over the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import eventually

SECONDS = 20.0
WIDE = (1280, 900)
NARROW = (390, 844)


class PageError(AssertionError):
    """The page's script raised, or the browser refused what it does."""


class Browser:
    """One tab of a Chromium whose profile is in `directory`. A context manager: it is gone after the block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: ClientConnection | None = None
        self._open = ExitStack()
        self.complaints: list[str] = []
        """What the console has got: exceptions, errors, violations of the page's policy."""

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> Self:
        program = shutil.which("chromium")
        assert program is not None, "chromium is not installed: make peers"
        port_file = self._directory / "DevToolsActivePort"
        with (self._directory / "chromium.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                 "--remote-debugging-port=0", f"--user-data-dir={self._directory}", "--hide-scrollbars", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "HOME": str(self._directory)},
            )  # fmt: skip
        eventually(lambda: port_file.exists() and port_file.read_text().count("\n") >= 1, "chromium to start", 60.0)
        port, path = port_file.read_text().splitlines()[:2]
        self._socket = self._open.enter_context(connect(f"ws://127.0.0.1:{port}{path}", max_size=64 << 20))
        target = self._send("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._send("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser with all its processes."""
        self._open.close()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    # -------------------------------------------------------------------------------------------------------- protocol

    def _send(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        assert self._socket is not None
        number = next(self._numbers)
        addressed = {"sessionId": session} if session else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters, **addressed}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        match event:
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
                self.complaints.append(str(details.get("exception", {}).get("description", details["text"])))
            case {"method": "Log.entryAdded", "params": {"entry": entry}} if entry["level"] == "error":
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the tab; its result."""
        return self._send(method, parameters, self._session)

    # ----------------------------------------------------------------------------------------------------- what a user does

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, and whether the user prefers dark pages."""
        mobile = width < 500
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Load a page."""
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'", f"{url} to load")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise. Raises PageError."""
        result = self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise PageError(str(result["exceptionDetails"].get("exception", {}).get("description", result)))
        return result["result"].get("value")

    def wait(self, condition: str, what: str, seconds: float = SECONDS) -> None:
        """Wait until an expression is true."""
        eventually(lambda: bool(self.run(condition)), what, seconds)

    def text(self, selector: str) -> str:
        """What the first element that matches says."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        """Click the middle of an element, as a mouse does."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """Press a key, such as Tab, Enter or a letter."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}
        text = "" if ctrl else {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        extra = {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
        extra |= {"modifiers": 2} if ctrl else {}
        self.command("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, **extra)
        self.command("Input.dispatchKeyEvent", type="keyUp", key=key, **extra)

    def type(self, text: str) -> None:
        """Write text where the focus is."""
        self.command("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.command("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data))
