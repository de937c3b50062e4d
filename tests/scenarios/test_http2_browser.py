"""A real browser over HTTP/2 and TLS: a page with many parts loads whole, whatever happens to the gateway meanwhile."""

import copy
from collections.abc import Callable
from pathlib import Path

from tests.support.backend_server import BackendServer
from tests.support.browser import Browser
from tests.support.certificates import Authority
from tests.support.gateway_process import GatewayProcess, Site, site
from tests.support.programs import needs
from tests.support.waiting import eventually

Starter = Callable[[Site], GatewayProcess]
Servers = Callable[..., list[BackendServer]]

SCRIPTS, FETCHES, AT_ONCE = 80, 400, 20
PAGE = (
    "<script>var loaded = 0, done = 0, failed = [];</script>"
    + "".join(f'<script src="/script/{i}" onerror="failed.push({i})"></script>' for i in range(SCRIPTS))
    + """<script>
async function work(from) {
  for (let i = from; i < FETCHES; i += AT_ONCE) {
    try {
      const answer = await fetch(i % 10 ? "/delay/0.05?" + i : "/bytes/200000?" + i);
      const body = await answer.arrayBuffer();
      if (answer.ok && (i % 10 || body.byteLength === 200000)) done++; else failed.push(i);
    } catch (error) { failed.push(i + ": " + error); }
  }
}
for (let i = 0; i < AT_ONCE; i++) work(i);
</script>""".replace("FETCHES", str(FETCHES)).replace("AT_ONCE", str(AT_ONCE))
)


@needs("chromium")
def test_no_request_of_a_page_is_lost(
    start_gateway: Starter, start_servers: Servers, authority: Authority, tmp_path: Path
) -> None:
    """Reloads change nothing for it; one that turns HTTP/2 off sends GOAWAY, and the browser comes again."""
    description = site(start_servers("app1"))
    description["frontends"][0] |= {"http2": True, "tls": {"certificates": [authority.issue("localhost").as_site()]}}
    description["access_log"] = {"path": "-", "format": "json"}
    description["routes"] = [
        {"match": {"path": "= /page"}, "respond": {"body": PAGE, "type": "text/html"}},
        {"match": {"path": "/script/"}, "respond": {"body": "loaded++", "type": "text/javascript"}},
        *description["routes"],
    ]
    gateway = start_gateway(description)
    without = copy.deepcopy(description)
    without["frontends"][0]["http2"] = False
    with Browser(tmp_path) as browser:
        browser.command("Security.setIgnoreCertificateErrors", ignore=True)
        browser.open(f"https://localhost:{gateway.port}/page")
        assert browser.run("loaded") == SCRIPTS
        at: list[int] = []
        for changed in (description, without, description, without):
            at.append(int(browser.run("done")))
            gateway.reload(changed)
            browser.wait(f"done + failed.length >= {min(at[-1] + 60, FETCHES)}", "the page to go on")
        browser.wait(f"done + failed.length === {FETCHES}", "the page to be complete")
        failed = browser.run("failed")
        complaints = browser.complaints
    # The browser itself fails a request for which it had chosen a connection just before that connection's GOAWAY came
    # (ERR_FAILED: SpdySession::TryCreateStream). Nothing of it has been sent; each other failure is the gateway's.
    unsent = [text.split()[-1] for text in complaints if "net::ERR_FAILED" in text]
    assert len(failed) == len(unsent) == len(complaints), (failed, complaints)
    assert not any(f'"uri":"/{url.split("/", 3)[3]}"' in gateway.output for url in unsent), complaints
    assert at[-1] < FETCHES, "all was over before the last reload"
    small = FETCHES * 9 // 10 - sum("/delay/" in url for url in unsent)
    eventually(lambda: gateway.output.count('"uri":"/delay/0.05?') == small, "each once in the log")
    lines = [line for line in gateway.output.splitlines() if "/delay/" in line or "/bytes/" in line]
    assert all('"status":200' in line for line in lines)
    assert any('"protocol":"HTTP/2.0"' in line for line in lines)
    assert any('"protocol":"HTTP/1.1"' in line for line in lines), "GOAWAY has moved nobody"
