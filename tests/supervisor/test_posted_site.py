"""A site file that an operator applies over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Loaded, load
from gateway.supervisor.posted_site import Invalid, PostedSite, Refused, read, require_readable

TEXT = """frontends: [{listen: "127.0.0.1:1"}]
backends: {app: {servers: ["127.0.0.1:2"]}}
routes: [{backend: app}]
admin:
  listen: "127.0.0.1:3"
  operators:
    - {name: alice, token_file: alice.token}
    - {name: carol, token_file: carol.token, role: configure}
"""


@pytest.fixture
def used(tmp_path: Path) -> Loaded:
    for name in ("alice", "carol"):
        (tmp_path / f"{name}.token").touch(mode=0o600)
        (tmp_path / f"{name}.token").write_text(f"the token of {name}\n")
    (tmp_path / "site.yaml").write_text(TEXT)
    return load(tmp_path / "site.yaml")


def posted(used: Loaded, token: str, text: str = "new") -> PostedSite:
    return PostedSite.of(json.dumps({"text": text, "token": token}), used.path, used)


@pytest.mark.parametrize("token", ["", "the token of alice", "the token of carol ", "the token of dave", "\ud800"])
def test_only_a_token_with_the_role_counts_whatever_the_listener_says(used: Loaded, token: str) -> None:
    with pytest.raises(Refused, match=r"role configure|not a site file"):
        posted(used, token)


@pytest.mark.parametrize(
    "argument", ["", "{", "[]", '{"text": 1, "token": "a"}', '{"text": "a"}', '{"text": "a", "token": "b", "c": 1}']
)
def test_what_is_not_a_command_is_refused(used: Loaded, argument: str) -> None:
    with pytest.raises(Refused, match="not a site file"):
        PostedSite.of(argument, used.path, used)


def test_the_file_keeps_its_mode_and_is_taken_back(used: Loaded) -> None:
    used.path.chmod(0o640)
    change = posted(used, "the token of carol")
    assert change.who == "carol"
    change.write()
    assert (used.path.read_text(), used.path.stat().st_mode & 0o777) == ("new", 0o640)
    change.take_back()
    assert (used.path.read_text(), used.path.stat().st_mode & 0o777) == (TEXT, 0o640)


def test_a_file_behind_a_link_is_replaced_where_it_is(used: Loaded, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(used.path)
    PostedSite.of(json.dumps({"text": "new", "token": "the token of carol"}), link, used).write()
    assert (link.is_symlink(), used.path.read_text()) == (True, "new")


def test_a_change_of_others_is_not_overwritten(used: Loaded) -> None:
    change = posted(used, "the token of carol")
    change.write()
    used.path.write_text("of others")
    change.take_back()
    assert used.path.read_text() == "of others"
    with pytest.raises(Refused, match="differs from what is in use"):
        posted(used, "the token of carol")


def outcome_of(text: str, used: Loaded) -> dict[str, Any]:
    said: list[bytes] = []
    read(text, used.path, said.append)
    found: dict[str, Any] = json.loads(b"".join(said))
    return found


def test_only_a_valid_file_that_is_quickly_read_is_taken(used: Loaded) -> None:
    require_readable(good := outcome_of(TEXT, used))
    with pytest.raises(Invalid, match=r"site\.yaml:1:12"):
        require_readable(outcome_of("frontends: 1", used))
    with pytest.raises(Refused, match="replace the file on the machine"):
        require_readable({**good, "seconds": 1.5})
    with pytest.raises(Refused, match="no answer within 20 s"):
        require_readable({"error": "no answer within 20 s"})
    for broken in ({}, {"problems": ""}, {"problems": "", "seconds": "1"}):
        with pytest.raises(Refused, match="broke off"):
            require_readable(broken)
