"""What `gateway explain` shows of rules, in this process."""

from pathlib import Path

from gateway.config import load
from gateway.explain.asked import Asked
from gateway.explain.report import tree
from gateway.explain.sandbox import Sandbox

SITE = """\
frontends: [{listen: "127.0.0.1:80"}]
backends: {app: {servers: ["127.0.0.1:9001"]}, other: {servers: ["127.0.0.1:9002"]}}
"""


def explained(directory: Path, text: str, line: str = "GET http://www.example.com/", **files: str) -> str:
    for name, content in files.items():
        (directory / name).write_text(content)
    (directory / "site.yaml").write_text(SITE + text)
    loaded = load(directory / "site.yaml")
    asked = Asked.parse(line)
    with Sandbox(loaded) as sandbox:
        return tree(asked, sandbox.decide(asked), sandbox.site)


def test_each_look_up_in_a_map_is_shown_once(tmp_path: Path) -> None:
    text = """\
maps: {plans: {file: plans, keys: host}}
routes:
  - {match: {when: 'map("plans", host) == "gold"'}, respond: {status: 403}}
  - {set_header: {X-Plan: "{map:plans:host}", X-None: "{map:plans:path}"}, backend: app}
"""
    lines = explained(tmp_path, text, plans="*.example.com basic\n").splitlines()
    shown = [line for line in lines if "map plans:" in line]
    assert shown == ["├─ map plans: www.example.com gives basic", "├─ map plans: / gives no value"]
    assert "│    X-Plan: basic" in lines


def test_shares_and_the_choice_by_a_key_are_shown(tmp_path: Path) -> None:
    text = """\
routes:
  - {match: {path: /api/}, split: {to: {other: 10%, app: 90%}, by: "{query:key}"}}
  - {split: {to: {other: 10%, app: 90%}, cookie: release}}
"""
    shown = explained(tmp_path, text, "GET http://a/api/?key=c")
    assert "matches: split other 10%, app 90%\n│    split: key c is at 7.71%: other\n" in shown
    assert "├─ backend other" in shown
    shown = explained(tmp_path, text)
    assert (
        "split: no key, so a request is drawn; here the largest share is taken: app; the client gets the cookie"
        in shown
    )


def test_many_routes_that_do_not_match_are_counted_by_their_reasons(tmp_path: Path) -> None:
    hosts = "".join(f"  - {{match: {{host: h{i}.example}}, backend: app}}\n" for i in range(100))
    shown = explained(tmp_path, f"routes:\n{hosts}  - backend: other\n").splitlines()
    at = shown.index("├─ routes")
    path = tmp_path / "site.yaml"
    assert shown[at + 1 : at + 4] == [
        f"│  {path}:4 routes[0] to {path}:103 routes[99]",
        "│    100 routes do not match: 100 by host; --json says why each does not",
        f"│  {path}:104 routes[100] matches: backend other",
    ]
    few = explained(tmp_path, f"routes:\n{hosts.splitlines()[0]}\n  - backend: other\n")
    assert "routes[0] does not match: host is www.example.com" in few


def test_settings_of_a_route_and_hidden_credentials_are_shown(tmp_path: Path) -> None:
    text = "routes: [{timeouts: {response: 1s}, set_header: {Authorization: Basic abc}, backend: app}]\n"
    shown = explained(tmp_path, text)
    assert "backend app with settings of the route's own" in shown
    assert "Authorization: Basic …" in shown
    assert "abc" not in shown.partition("gets")[2]
