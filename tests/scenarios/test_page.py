"""The page for operators in a real browser: what it shows, what it does, and who can use it."""

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.backend_server import ROOT, BackendServer
from tests.support.browser import NARROW, WIDE, Browser
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, site
from tests.support.programs import needs
from tests.support.raw import RawClient
from tests.support.waiting import eventually, free_port, free_udp_port
from tests.support.web_farm import ask, both_port

pytestmark = needs("chromium")

AXE = ROOT / "build" / "axe" / "axe.min.js"
PICTURES = ROOT / "build" / "screenshots"
PAGE = ROOT / "gateway" / "admin" / "page"
TOKEN = "the token of alice"
LOOK = "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(one => one.id + ': ' + one.nodes[0].html + one.nodes[0].failureSummary))"
"""What axe finds, as lines."""


@dataclass
class Watched:
    """A gateway with two servers, and the page about it in a browser."""

    gateway: GatewayProcess
    servers: list[BackendServer]
    browser: Browser
    url: str

    def state(self, server: str) -> str:
        return str(self.browser.run(f"{row(server)}?.children[1].innerText ?? ''"))

    def wait_for_state(self, server: str, state: str) -> None:
        said = "document.querySelector('#done').innerText"
        holds = f"{row(server)}?.children[1].innerText === {json.dumps(state)}"
        try:
            self.browser.wait(holds, f"{server} to be {state}")
        except AssertionError as error:
            shown = [self.state(server), self.browser.run(said), self.browser.complaints]
            raise AssertionError(f"{error}: the page shows {shown}") from None

    def confirm(self, button: str) -> None:
        self.browser.click(button)
        self.browser.wait("document.querySelector('#confirm').open", "the question")
        self.browser.click("#confirm-yes")

    def told(self, text: str) -> None:
        self.browser.wait(
            f"document.querySelector('#done').innerText.includes({json.dumps(text)})", f"the answer {text}"
        )


def found_by_axe(browser: Browser) -> list[str]:
    if not AXE.exists():
        pytest.skip("not installed: axe-core (make axe)")
    browser.run(AXE.read_text())
    found: list[str] = browser.run(LOOK)
    return found


def row(server: str) -> str:
    return f"document.querySelector('#backends tr[data-key={server}]')"


def button(command: str, server: str) -> str:
    return f"#backends tr[data-key={server}] button[data-key={command}]"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("page")
    (directory / "alice.token").touch(mode=0o600)
    (directory / "alice.token").write_text(TOKEN)
    port = free_port()
    alice = {"name": "alice", "token_file": "alice.token", "role": "configure"}
    with BackendServer(directory, "app1") as one, BackendServer(directory, "app2") as two:
        description = site([one, two], workers=2, check={"http": "/", "interval": "100ms", "fall": 1, "rise": 1},
                           affinity={"cookie": "s"})  # fmt: skip
        description["admin"] = {"sockets": str(directory), "listen": f"127.0.0.1:{port}", "operators": [alice]}
        description["qos"] = {"classes": [{"name": "everyone", "rate": "1000/s"}], "sessions": {"max": 1000}}
        with GatewayProcess(directory, description) as gateway, Browser(tmp_path_factory.mktemp("browser")) as browser:
            gateway.wait_for_log("control uses load")
            browser.size(*WIDE)
            browser.open(f"http://127.0.0.1:{port}/")
            yield Watched(gateway, [one, two], browser, f"http://127.0.0.1:{port}")


def test_the_page_asks_for_a_token_and_shows_the_gateway(watched: Watched) -> None:
    browser = watched.browser
    browser.wait("!document.querySelector('#sign-in').hidden", "the question for a token")
    browser.run("document.querySelector('#token').focus()")
    browser.type("a wrong token, as long as it")
    browser.press("Enter")
    browser.wait("document.querySelector('#sign-in-why').innerText.includes('does not know')", "the refusal")
    browser.type(TOKEN)
    browser.press("Enter")
    for server in ("app1", "app2"):
        watched.wait_for_state(server, "up")
    with RawClient(watched.gateway.port) as client:
        for _ in range(20):
            assert client.get().status == 200
    browser.wait("document.querySelector('#outcomes tbody').innerText.startsWith('ok')", "the requests to be counted")
    assert browser.text("#problem-list") == "None."
    assert browser.text("#class-table tbody th") == "everyone"
    assert browser.run("document.querySelector('#rate-chart canvas').width") > 300
    assert [line for line in browser.complaints if "401" not in line] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing(watched: Watched, size: tuple[int, int], *, dark: bool) -> None:
    browser = watched.browser
    browser.size(*size, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") == size[0], "the page is as wide as the window"
    browser.screenshot(PICTURES / f"page-{size[0]}-{'dark' if dark else 'light'}.png")
    assert found_by_axe(browser) == []
    browser.size(*WIDE)


def test_a_server_that_dies_is_a_problem_until_it_is_back(watched: Watched) -> None:
    watched.servers[1].kill()
    watched.wait_for_state("app2", "down")
    assert "app/app2 down: " in watched.browser.text("#problem-list")
    watched.browser.wait("document.title.startsWith('(1)')", "the title to say so")
    watched.browser.screenshot(PICTURES / "page-server-down.png")
    watched.servers[1].start()
    watched.wait_for_state("app2", "up")
    watched.browser.wait("document.querySelector('#problem-list').innerText === 'None.'", "the problem to be over")


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_server_is_drained_and_brought_back_by_mouse(watched: Watched, size: tuple[int, int]) -> None:
    watched.browser.size(*size)
    watched.confirm(button("drain", "app1"))
    watched.wait_for_state("app1", "drain")
    watched.told("Drain app/app1: done")
    assert "left" in str(watched.browser.run(f"{row('app1')}.innerText + {row('app1')}.children[8].textContent"))
    with RawClient(watched.gateway.port) as client:
        assert {client.get().header("X-Server") for _ in range(4)} == {"app2"}
    watched.browser.screenshot(PICTURES / f"page-drained-{size[0]}.png")
    watched.confirm(button("ready", "app1"))
    watched.wait_for_state("app1", "up")
    assert watched.browser.text("#audit-table tbody tr").split()[1:4] == ["alice", "ready", "app/app1"]
    watched.browser.size(*WIDE)


def test_a_server_is_drained_by_keyboard_and_the_focus_stays(watched: Watched) -> None:
    browser = watched.browser
    name = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
    browser.run("document.querySelector('#servers').focus()")
    pressed = 0
    while browser.run(name) != "Maintenance app/app2":
        browser.press("Tab")
        pressed += 1
        assert pressed < 20, browser.run(name)
    browser.press("Enter")
    browser.wait("document.querySelector('#confirm').open", "the question")
    assert browser.run(name) == "Cancel"
    browser.press("Escape")
    browser.wait("!document.querySelector('#confirm').open", "the question to be gone")
    assert (browser.run(name), watched.state("app2")) == ("Maintenance app/app2", "up")
    browser.press("Enter")
    browser.press("Tab")
    assert browser.run(name) == "Maintenance"
    browser.press("Enter")
    watched.wait_for_state("app2", "maintenance")
    watched.told("Maintenance app/app2: done")
    changes = (
        "[...document.querySelectorAll('#audit-table tbody tr')].filter(row => row.innerText.includes('maintenance'))"
    )
    browser.wait(f"{changes}.length === 1", "the change, made once")
    watched.confirm(button("forget", "app2"))
    watched.wait_for_state("app2", "up")


def test_a_request_is_explained(watched: Watched) -> None:
    browser = watched.browser
    browser.run("document.querySelector('#explain-request').focus()")
    browser.type("GET http://www.example.com/<b>bold</b>")
    browser.press("Enter")
    browser.wait("document.querySelector('#explained').innerText.includes('└─')", "the explanation")
    said = browser.text("#explained")
    assert "GET http://www.example.com/<b>bold</b>" in said
    assert "backend app: round-robin" in said
    browser.screenshot(PICTURES / "page-explained.png")
    browser.click("#run-tests")
    browser.wait("document.querySelector('#explained').innerText === '0 of 0 tests pass'", "the tests")


def test_the_site_file_is_edited_checked_applied_and_undone(watched: Watched) -> None:
    browser, path = watched.browser, watched.gateway.path
    good = path.read_text()
    verdict = "document.querySelector('#site-verdict').innerText"
    write = "const area = document.querySelector('#site-text'); area.value = {}; area.dispatchEvent(new Event('input'))"
    enabled = "!document.querySelector('#apply').disabled"
    browser.click("#edit")
    browser.wait(f"{verdict} === 'valid; 0 of 0 tests pass; this is the file in use'", "the file in use")
    assert browser.run("document.querySelector('#site-text').value") == good
    assert not browser.run(enabled)
    browser.run(f"(() => {{ {write.format(json.dumps(good.replace('balance:', 'balanse:')))} }})()")
    browser.wait(f"{verdict} === '1 error'", "the mistake to be found")
    assert "balanse" in browser.text("#site-problems")
    assert not browser.run(enabled)
    test = '{request: "GET http://a/", expect: {status: 404}}'
    browser.run(f"(() => {{ {write.format(json.dumps(good + f'tests: [{test}]'))} }})()")
    browser.wait(f"{verdict} === 'valid; 0 of 1 tests pass'", "the test to be run")
    assert "status is the server's" in browser.text("#site-tests")
    assert "+tests: [{request" in browser.text("#site-diff")
    assert found_by_axe(browser) == []
    browser.screenshot(PICTURES / "page-editor.png")
    complete_by_keyboard(browser)
    browser.run(f"(() => {{ {write.format(json.dumps(good + f'tests: [{test}]'))} }})()")
    browser.wait(enabled, "the text to be checked again")
    watched.confirm("#apply")
    watched.told("Apply: done")
    assert path.read_text() == good + f"tests: [{test}]"
    browser.wait("!document.querySelector('#undo').hidden", "the way back")
    watched.confirm("#undo")
    browser.wait(f"{verdict} === 'valid; 0 of 0 tests pass; this is the file in use'", "the file as it was")
    assert path.read_text() == good
    browser.wait("document.querySelectorAll('#version-table tbody tr').length === 3", "the history")
    browser.run("document.querySelector('#history').open = true")
    browser.click("#version-table [data-key='2'] button[data-key=Difference]")
    browser.wait("document.querySelector('#version-diff').innerText.includes('tests: [{request')", "the difference")
    assert found_by_axe(browser) == []
    browser.click("#version-table [data-key='2'] button[data-key^=Put]")
    browser.wait(f"document.querySelector('#site-text').value.includes({json.dumps(test)})", "version 2 in the editor")
    browser.click("#revert")
    browser.wait(f"document.querySelector('#site-text').value === {json.dumps(good)}", "the file in use")


def complete_by_keyboard(browser: Browser) -> None:
    """At the end of the site file, in the editor."""
    area = "document.querySelector('#site-text')"
    browser.run(
        f"{area}.value += '\\nbackends:\\n  app:\\n    bal'; {area}.focus(); {area}.setSelectionRange(1e9, 1e9)"
    )
    browser.press(" ", ctrl=True)
    browser.wait("!document.querySelector('#site-completions').hidden", "the completions")
    active = f"document.getElementById({area}.getAttribute('aria-activedescendant'))?.innerText"
    assert str(browser.run(active)).startswith("balance ")
    assert found_by_axe(browser) == []
    browser.screenshot(PICTURES / "page-completions.png")
    browser.press("Enter")
    assert str(browser.run(f"{area}.value")).endswith("    balance: ")
    browser.press(" ", ctrl=True)
    browser.press("ArrowDown")
    second = str(browser.run(active)).strip()
    browser.press("Enter")
    assert str(browser.run(f"{area}.value")).endswith(f"    balance: {second}")
    browser.press("Tab")
    assert browser.run(f"document.activeElement !== {area}"), "Tab leaves the editor"


PLACES = {
    "fro": "frontends",
    "frontends:\n  - li": "listen",
    "frontends:\n- listen: ':80'\n  li": "listen limits",
    "backends:\n  app:\n    check: {htt": "http",
    "backends:\n  app:\n    servers:\n      - {address: 'a:1', wei": "weight",
    "routes:\n  - match: {path: /a}\n    bac": "backend",
    "routes:\n  - backend: a": "app api",
    "routes: [{match: {path: /}, backend: a": "app api",
    "frontends:\n  - listen: ':80'\n    http2: ": "true false",
    "frontends:\n  - listen: ':80'\n    tls:\n      policy: ": "modern intermediate old",
    "# fro": "",
    "nothing:\n  of: ": "",
}
"""What is offered at the end of a text that another one follows."""
REST = "\nbackends:\n  app: {servers: ['a:1']}\n  api:\n    servers: ['b:1']\n"


def test_what_is_offered_is_what_the_schema_knows_there(watched: Watched) -> None:
    look = (
        "(async () => { const { suggestions } = await import('/complete.js');"
        f" const answer = await fetch('/api/v1/schema', {{headers: {{Authorization: {json.dumps(f'Bearer {TOKEN}')}}}}});"
        f" const schema = await answer.json(); return {json.dumps(list(PLACES))}.map(text =>"
        f" suggestions(schema, text, text + {json.dumps(REST)}).map(one => one.word)); }})()"
    )
    found = [set(words) for words in watched.browser.run(look)]
    for (text, wanted), words in zip(PLACES.items(), found, strict=True):
        assert set(wanted.split()) == words if not wanted or len(wanted.split()) > 1 else wanted in words, (text, words)


def test_requests_are_followed_on_the_page(watched: Watched) -> None:
    browser = watched.browser
    state = "document.querySelector('#tail-state').innerText"
    browser.run("document.querySelector('#tail-when').focus()")
    browser.type('path.startsWith("/bytes/")')
    browser.press("Enter")
    browser.wait(f"{state} === 'following; 0 requests'", "the page to follow")
    rows = "[...document.querySelectorAll('#tail-table tbody tr')].map(row => row.innerText)"

    def seen() -> bool:
        with RawClient(watched.gateway.port) as client:
            client.get("/")
            client.get("/bytes/1?<b>x</b>")
        return bool(browser.run(f"{rows}.length"))

    eventually(seen, "a request")
    assert all("GET http://localhost/bytes/1?" in row and "\tok\t" in row for row in browser.run(rows))
    assert browser.run("document.querySelectorAll('#tail-table b').length") == 0
    assert browser.run("document.querySelectorAll('#tail-outcome option').length") > 30
    browser.size(*NARROW)
    assert browser.run("document.documentElement.scrollWidth") == NARROW[0]
    assert found_by_axe(browser) == []
    browser.size(*WIDE)
    browser.screenshot(PICTURES / "page-requests.png")
    browser.click("#tail-start")
    browser.wait(f"{state}.startsWith('ended; ')", "the page to end it")
    browser.run("document.querySelector('#tail-when').value = 'pth'")
    browser.click("#tail-start")
    watched.told("did you mean path?")
    browser.run("document.querySelector('#tail-when').value = ''")


def test_the_site_is_evacuated_and_readmitted(watched: Watched) -> None:
    browser, description = watched.browser, watched.gateway.site
    key = watched.gateway.path.parent / "sites.key"
    key.touch(mode=0o600)
    key.write_text("a key of more than sixteen bytes")
    peers = {"syd": {"url": "http://syd.example.com", "report": f"127.0.0.1:{free_udp_port()}"}}
    sites = {"self": "mel", "listen": f"127.0.0.1:{free_udp_port()}", "peers": peers, "key_file": str(key)}
    watched.gateway.reload({**description, "sites": sites})
    browser.wait("!document.querySelector('#evacuate-site').hidden", "the button")
    assert "mel (this one)" in browser.text("#site-table")
    watched.confirm("#evacuate-site")
    watched.told("Evacuate site mel: done")
    browser.wait("document.querySelector('#evacuation').innerText.startsWith('mel is evacuated by command: ')", "it")
    assert found_by_axe(browser) == []
    watched.confirm("#readmit-site")
    watched.told("Readmit site mel: done")
    browser.wait("document.querySelector('#evacuation').innerText === ''", "the end of it")
    watched.gateway.reload(description)
    browser.wait("document.querySelector('#sites').hidden", "the site to be alone")


def test_what_the_name_server_is_asked_and_answers(watched: Watched) -> None:
    browser, description, port = watched.browser, watched.gateway.site, both_port()
    zone = {"ns": ["ns1.example.com"], "sites": {"mel": "192.0.2.10", "syd": "198.51.100.10"}}
    name_server = {"listen": f"127.0.0.1:{port}", "response_rate": 0, "zones": {"www.example.com": zone}}
    watched.gateway.reload({**description, "dns": name_server}, says="dns 0 uses load")
    browser.wait("document.querySelector('#name-table tbody').innerText.includes('mel 50 %')", "the name")

    def figure(name: str) -> str:
        boxes = "[...document.querySelectorAll('#dns-figures div')]"
        said: str = browser.run(
            f"{boxes}.find(box => box.firstChild.innerText === {json.dumps(name)})?.lastChild.innerText ?? ''"
        )
        return said

    def counted() -> bool:
        ask(port)
        ask(port, name="none.www.example.com")
        return all(figure(name) not in {"", "0"} for name in ("DNS by UDP/s", "answers/s", "no such name/s"))

    eventually(counted, "queries to be counted")
    assert figure("dropped/s") == "0"
    for size in (NARROW, WIDE):
        browser.size(*size)
        browser.run("document.querySelector('#sites').scrollIntoView()")
        assert browser.run("document.documentElement.scrollWidth") == size[0]
        browser.screenshot(PICTURES / f"page-names-{size[0]}.png")
    assert found_by_axe(browser) == []
    watched.gateway.reload(description)
    browser.wait("document.querySelector('#sites').hidden", "the end of the name server")


def test_a_broken_site_file_is_told_as_text(watched: Watched) -> None:
    browser, path = watched.browser, watched.gateway.path
    good = path.read_text()
    path.write_text(f"'<img src=x onerror=\"document.title=1\">': 1\n{good}")
    watched.confirm("[data-command=reload]")
    watched.told("reload refused; keeping version")
    browser.wait("document.querySelector('#problem-list b')?.innerText === 'site file'", "the problem to be shown")
    assert "<img src=x onerror" in browser.text("#problem-list")
    assert browser.run("document.querySelectorAll('img').length") == 0
    browser.screenshot(PICTURES / "page-reload-refused.png")
    path.write_text(good)
    watched.confirm("[data-command=reload]")
    watched.told("Reload: done")
    browser.wait("document.querySelector('#problem-list').innerText === 'None.'", "the problem to be over")


def test_the_page_follows_the_gateway_over_the_death_of_its_control_process(watched: Watched) -> None:
    watched.gateway.kill_control()
    deaths = "document.querySelector('#process-table [data-key=control]')?.lastChild.innerText"
    watched.browser.wait(f"{deaths} === '1'", "the death to be shown")
    assert watched.browser.text("#live") == "live"


def test_old_figures_are_called_old(watched: Watched) -> None:
    control = watched.gateway.control()
    assert control is not None
    os.kill(control, signal.SIGSTOP)
    try:
        watched.browser.wait("document.querySelector('#live').className === 'stale'", "the page to say so")
        assert re.fullmatch(r"no answer for \d+ s: these figures are old", watched.browser.text("#live"))
    finally:
        os.kill(control, signal.SIGCONT)
    watched.browser.wait("document.querySelector('#live').innerText === 'live'", "the page to go on")


def test_the_page_over_tls(watched: Watched, authority: Authority) -> None:
    browser, description = watched.browser, watched.gateway.site
    tls = authority.issue("127.0.0.1").as_site()
    watched.gateway.reload({**description, "admin": {**description["admin"], "tls": tls}})
    browser.command("Security.setIgnoreCertificateErrors", ignore=True)
    browser.open(watched.url.replace("http:", "https:"))
    browser.wait("!document.querySelector('#sign-in').hidden", "the question for a token")
    browser.run("document.querySelector('#token').focus()")
    browser.type(TOKEN)
    browser.press("Enter")
    browser.wait("document.querySelector('#live').innerText === 'live'", "the figures")
    watched.confirm("[data-command=reload]")
    watched.told("Reload: done")
    watched.gateway.reload(description)
    browser.open(watched.url)
    browser.wait("document.querySelector('#live').innerText === 'live'", "the page without TLS")


def test_percentiles_are_those_of_the_histogram(watched: Watched) -> None:
    look = "import('/gateway.js').then(page => [{}].map(share => page.percentile([0, 10, 0, 10], [1, 2, 4], share)))"
    assert watched.browser.run(look.format("0.25, 0.5, 0.75, 1")) == [1.5, 2, 4, 4]
    assert watched.browser.run("import('/gateway.js').then(page => page.percentile([0, 0], [1], 0.5))") is None
    assert watched.browser.run("import('/gateway.js').then(page => page.added(5, 7))") == 5


def test_the_script_makes_no_html_and_nothing_comes_from_elsewhere() -> None:
    script = "".join((PAGE / name).read_text() for name in ("gateway.js", "tail.js", "complete.js", "completion.js"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\.style\b", script
    )
    for name in ("index.html", "gateway.css", "gateway.js", "tail.js", "complete.js", "completion.js"):
        text = (PAGE / name).read_text()
        assert not re.search(r"(?:src|href|url|from|import)\W{1,3}(?:https?:)?//", text), name
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script>", text), name


@pytest.mark.parametrize(
    "name, digest",
    [
        ("uplot.js", "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba"),
        ("uplot.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
    ],
)
def test_the_chart_library_is_as_it_was_released(name: str, digest: str) -> None:
    assert hashlib.sha256((PAGE / name).read_bytes()).hexdigest() == digest
