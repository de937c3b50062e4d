"""Included files: what they add, in which order, and where their mistakes are."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import ConfigError, Loaded, load
from gateway.explain import trial

MAIN = """\
include: {include}
frontends: [{{listen: "127.0.0.1:80"}}]
backends: {{app: {{servers: ["127.0.0.1:1"]}}}}
routes:
  - backend: app
"""
SHOP = """\
backends:
  shop: {servers: ["127.0.0.1:2"]}
routes:
  - match: {host: shop.example}
    backend: shop
tests:
  - {request: "GET http://shop.example/", expect: {backend: shop}}
"""


def write(directory: Path, include: str = "sites", **files: str) -> Path:
    (directory / "sites").mkdir()
    for name, text in files.items():
        (directory / "sites" / f"{name}.yaml").write_text(text)
    (directory / "site.yaml").write_text(MAIN.format(include=include))
    return directory / "site.yaml"


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize("include", ["sites", "sites/*.yaml", "[sites/a.yaml, sites/b.yaml]"])
def test_routes_of_included_files_come_in_order_before_those_of_the_site_file(tmp_path: Path, include: str) -> None:
    path = write(tmp_path, include, a=SHOP, b="routes: [{match: {path: /b}, backend: shop}]\n")
    loaded = load(path)
    assert [route.backend for route in loaded.site.routes] == ["shop", "shop", "app"]
    assert loaded.routes_at == tuple(
        f"{tmp_path}/{place}" for place in ("sites/a.yaml:4", "sites/b.yaml:1", "site.yaml:5")
    )
    assert set(loaded.site.backends) == {"app", "shop"}
    assert [verdict.differences for verdict in trial.run(loaded)] == [()]


def test_mistakes_are_found_in_the_file_that_has_them(tmp_path: Path) -> None:
    other = "backends: {app: {servers: ['127.0.0.1:3']}}\nroutes: [{backend: nowhere}, {backend: shop, zzz: true}]\n"
    found = problems(write(tmp_path, a=SHOP, b=other))
    assert found == [
        "site.yaml:3:12: app is given twice in backends (first in sites/b.yaml:1)",
        "sites/b.yaml:2:20: there is no backend nowhere",
        "sites/b.yaml:2:46: unknown key zzz",
    ]


@pytest.mark.parametrize("text, said", [
    ("workers: 3\n", "sites/a.yaml:1:1: workers stands in the site file itself; an included file may have frontends"),
    ("include: b.yaml\n", "sites/a.yaml:1:1: only the site file includes others"),
    ("- a\n", "sites/a.yaml:1:1: expected a mapping with some of frontends"),
    ("routes: {}\n", "sites/a.yaml:1:9: expected a list"),
    ("routes: [\n", "sites/a.yaml:2:1: not valid YAML"),
    ("routes: []\nroutes: []\n", "sites/a.yaml:2:1: routes is given twice (first on line 1)"),
])  # fmt: skip
def test_an_included_file_has_only_parts_of_a_site(tmp_path: Path, text: str, said: str) -> None:
    (found,) = problems(write(tmp_path, a=text))
    assert found.startswith(said)


@pytest.mark.parametrize("text, said", [
    ("root:*:20228:0:99999:7:::\ndaemon:$6$hash:1::::\n", "this key stands in the site file itself"),
    ("pass word: 1\n", "this key stands in the site file itself"),
    (f"{'k' * 41}: 1\n", "this key stands in the site file itself"),
    (f"password: *{'k' * 41}\n", "there is no &… above"),
    ("password: !s3cret.word x\n", "the tag … is not supported"),
    ("password: !s3cret.word [x]\n", "the tag … is not supported"),
])  # fmt: skip
def test_an_included_file_that_is_no_site_file_is_not_quoted(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, "sites/secret")
    (tmp_path / "sites" / "secret").write_text(text)
    found = problems(path)
    assert said in found[0]
    assert not any(word in line for line in found for word in ("root", "hash", "word", "kkk"))


def test_another_site_file_has_only_the_files_that_are_saved_or_on_the_disk(tmp_path: Path) -> None:
    path = write(tmp_path, a=SHOP)
    loaded = load(path)
    (tmp_path / "sites" / "a.yaml").unlink()
    (tmp_path / "sites").rmdir()
    os.mkfifo(tmp_path / "fifo")
    wanted = {
        "none": "none:1:1: cannot read it: no such file or directory",
        "none/": "none:1:1: cannot read it: no such file or directory",
        "fifo": "fifo:1:1: cannot read it: it is not a regular file",
        "/dev/zero": "/dev/zero:1:1: cannot read it: it is not a regular file",
        "none/*.yaml": "site.yaml:1:10: cannot read none: no such file or directory",
        f"{'x' * 300}": f"site.yaml:1:10: cannot read {'x' * 300}: file name too long",
    }
    for include, said in wanted.items():
        other = replace(loaded.source, text=MAIN.format(include=include), includes=frozenset({"sites"}))
        with pytest.raises(ConfigError) as caught:
            load(path, saved=other)
        assert str(caught.value).replace(f"{tmp_path}/", "") == said
    for include in ("sites", "sites/a.yaml"):
        other = replace(loaded.source, text=MAIN.format(include=include), includes=frozenset({"sites"}))
        assert len(load(path, saved=other).site.routes) == 2


def test_a_file_that_does_not_exist_and_one_that_is_included_twice_are_mistakes(tmp_path: Path) -> None:
    (found,) = problems(write(tmp_path, "sites/none.yaml"))
    assert found == "sites/none.yaml:1:1: cannot read it: no such file or directory"
    (tmp_path / "sites" / "a.yaml").write_text(SHOP)
    (tmp_path / "site.yaml").write_text(MAIN.format(include="[sites, sites/a.yaml]"))
    assert problems(tmp_path / "site.yaml") == ["sites/a.yaml:1:1: included twice"]


def test_included_files_are_part_of_what_is_saved_and_of_the_digest(tmp_path: Path) -> None:
    path = write(tmp_path, a=SHOP)
    loaded: Loaded = load(path)
    (tmp_path / "sites" / "a.yaml").write_text(SHOP + "# another\n")
    assert load(path).digest != loaded.digest
    (tmp_path / "sites" / "a.yaml").unlink()
    assert len(load(path).site.routes) == 1
    again = load(path, saved=loaded.source)
    assert again.site.routes == loaded.site.routes
    assert again.digest == loaded.digest
