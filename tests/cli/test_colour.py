"""Colours where a terminal is, and nowhere else."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gateway.cli import colour
from gateway.control import show
from tests.admin.reports import control
from tests.support.backend_server import ROOT

SITE = """user: nobody
frontends: [{listen: "127.0.0.1:8080"}]
backends: {app: {servers: ["127.0.0.1:2"]}}
routes: [{match: {path: /x}, respond: {status: 404}}, {backend: app}]
tests: [{request: "GET http://a/", expect: {status: 404}}]
"""
RED, YELLOW, GREEN = "\033[31m", "\033[33m", "\033[32m"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def on_terminal(*words: str, **variables: str) -> str:
    """What a command writes to a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *words],
        cwd=ROOT,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**{key: value for key, value in os.environ.items() if key != "NO_COLOR"}, **variables},
    )
    os.close(follower)
    said = b""
    try:
        while part := os.read(leader, 4096):
            said += part
    except OSError:  # the other end is closed (EIO)
        pass
    finally:
        os.close(leader)
        process.wait(60)
    return said.decode()


def test_a_terminal_has_colours_unless_it_is_told_not_to(site: Path) -> None:
    shown = on_terminal("test", str(site))
    assert f"{RED}  - status: 404" in shown
    assert f"{GREEN}  + status: the server's: backend app" in shown
    plain = on_terminal("test", str(site), NO_COLOR="1")
    assert "\033" not in plain
    assert plain == click.unstyle(shown)


def test_a_pipe_has_none(site: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "gateway", "test", site], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"\033" not in done.stdout + done.stderr


def test_problems_stand_out_by_how_bad_they_are() -> None:
    text = "/a b.yaml: it\n/a.yaml:1:2: unknown key x\n/a.yaml:3:4: warning: never reached\nand 5 more"
    shown = colour.problems(text)
    assert click.unstyle(shown) == text
    assert f"{RED}unknown key x" in shown
    assert f"{YELLOW}warning: " in shown


def test_steps_of_an_explanation() -> None:
    text = "GET /\n├─ frontend web\n│  a.yaml:4 routes[0] does not match: path is /\n└─ refused with 400: bad"
    shown = colour.steps(text)
    assert click.unstyle(shown) == text
    assert f"{RED}\033[1m└─ refused" in shown
    assert "\033[2m│  a.yaml:4 routes[0]" in shown


def test_a_server_that_is_down_is_red_in_the_status() -> None:
    text = "gw1: gateway 1, running\nRELOAD REFUSED at 3:00\n" + show.text(control())
    text += f"{'app/b':<20}{'down':<17}      1\n{'app/c':<20}{'up, drain':<17}      1\n{'app/d':<20}{'up':<17}      1\n"
    shown = colour.status(text)
    assert click.unstyle(shown) == text
    assert f"{RED}\033[1mdown" in shown
    assert f"{YELLOW}up, drain" in shown
    assert f"{GREEN}up" in shown
    assert f"{RED}\033[1mRELOAD REFUSED" in shown
    assert all(len(line) <= show.WIDTH for line in text.splitlines())
