"""Maps: their files, the tables made of them, and what check says of them."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, Loaded, load
from gateway.config.loader import renew_maps
from gateway.config.map_table import MapFaults, build
from gateway.config.saved import SavedSite

SITE = """\
frontends: [{listen: "127.0.0.1:80"}]
backends: {app: {servers: ["127.0.0.1:9001"]}}
"""


def loaded(directory: Path, text: str, saved: SavedSite | None = None, **files: str) -> Loaded:
    for name, content in files.items():
        (directory / name).write_text(content)
    (directory / "site.yaml").write_text(SITE + text)
    return load(directory / "site.yaml", saved=saved)


@pytest.mark.parametrize("keys, text, found", [
    ("exact", "a 1\n# b 2\n\n  b\t two words \r\nC 3", {"a": "1", "b": "two words", "c": None, "# b": None, "": None}),
    ("prefix", "/a 1\n/a/b/ 2\n/b 3", {"/a": "1", "/ab": "1", "/a/b": "1", "/a/b/c": "2", "/": None, "/b/a": "3"}),
    ("host", "WWW.a.example 1\n*.a.example 2\n*.b.a.example 3", {
        "www.A.example": "1", "www.a.example.": "1", "x.a.example": "2", "x.y.a.example": "2", "x.b.a.example": "3",
        "a.example": None, ".a.example": None, "": None, "x" * 300: None}),
    ("network", "0.0.0.0/0 all\n10.0.0.0/8 1\n10.1.0.0/17 2\n10.1.2.3 3\n2001:db8::/33 4\n::1 5", {
        "10.9.9.9": "1", "10.1.127.255": "2", "10.1.128.0": "1", "10.1.2.3": "3", "::ffff:10.1.2.3": "3", "9.9.9.9": "all",
        "2001:db8:7fff::": "4", "2001:db8:8000::": None, "::1": "5", "nobody": None, "": None, "1" * 100: None}),
])  # fmt: skip
def test_a_key_finds_its_value(keys: str, text: str, found: dict[str, str | None]) -> None:
    table = build(text.encode(), keys)
    for key, value in found.items():
        assert table.get(key.encode()) == (None if value is None else value.encode()), key
    assert bytes(memoryview(table)) == text.encode()


@pytest.mark.parametrize("text, columns, found", [
    ("a,1\nb,2,3", {}, [("a", "1"), ("b", "2")]),
    ("\ufeffplan,host\ngold,a\r\n\r\n", {"key": "host", "value": "plan"}, [("a", "gold")]),
    ("plan,host\ngold,a", {"key": "host"}, [("a", "gold")]),
    ("host,plan,note\na,gold,x", {"value": "note"}, [("a", "x")]),
    ('"a,b","say ""hi"""\n,\n', {}, None),
    ('"a,b","say ""hi"""\n', {}, [("a,b", 'say "hi"')]),
])  # fmt: skip
def test_columns_of_a_csv_file_are_read(
    text: str, columns: dict[str, str], found: list[tuple[str, str]] | None
) -> None:
    if found is None:
        with pytest.raises(MapFaults, match="line 2: a key is empty"):
            build(text.encode(), "exact", is_csv=True, **columns)
        return
    table = build(text.encode(), "exact", is_csv=True, **columns)
    assert [(key.decode(), value.decode()) for key, value in table.items()] == found


@pytest.mark.parametrize("keys, text, said", [
    ("exact", "a 1\nb\n", "line 2: there is a key without a value: write KEY VALUE"),
    ("exact", "a 1\nb 2\na 3", "line 3: its key is on line 1, too"),
    ("exact", "a 1\x0b2", "line 1: a value cannot contain a control character"),
    ("exact", "a" * 5000 + " 1", "line 1: a key has at most 4096 bytes"),
    ("exact", "a " + "b" * 5000, "line 1: a value has at most 4096 bytes"),
    ("host", "a/b 1", "line 1: a/b is neither a host name nor *.NAME"),
    ("host", "a.example 1\nA.EXAMPLE 2", "line 2: its key is on line 1, too"),
    ("network", "10.0.0.1/8 1", "line 1: 10.0.0.1/8 has address bits beyond its length: write the network's own address"),
    ("network", "10.0.0.0/33 1", "line 1: 10.0.0.0/33 is not a network such as 10.0.0.0/8 or 2001:db8::/32"),
    ("network", "ten 1", "line 1: ten is not a network such as 10.0.0.0/8 or 2001:db8::/32"),
])  # fmt: skip
def test_a_mistake_in_a_file_is_reported_with_its_line(keys: str, text: str, said: str) -> None:
    with pytest.raises(MapFaults) as error:
        build(text.encode(), keys)
    assert str(error.value) == said


def test_mistakes_in_a_csv_file_are_reported() -> None:
    for text, columns, said in (
        ('a,"b', {}, "line 1: a text in quotes has to end on its line, before a comma"),
        ("a,b\nc", {}, "line 2: there is no column 2"),
        ("a,b\n1,2", {"key": "c"}, "line 1: there is no column c: there are a, b"),
        ("a,b\n1,2", {"value": "a"}, "line 1: a is the column of the keys"),
    ):
        with pytest.raises(MapFaults) as error:
            build(text.encode(), "exact", is_csv=True, **columns)
        assert str(error.value) == said


def test_a_large_map_finds_every_key() -> None:
    text = "".join(f"k{i} v{i}\n" for i in range(20_000)).encode()
    for keys in ("exact", "host"):
        table = build(text, keys)
        assert len(table) == 20_000
        assert all(table.get(b"k%d" % i) == b"v%d" % i for i in range(20_000))
        assert table.get(b"k20000") is None


@pytest.mark.parametrize("text, said", [
    ("maps: {m: gone}\n", "cannot read {}/gone: no such file or directory"),
    ("maps: {m: {file: bad, keys: network}}\n", "{}/bad:1: a is not a network such as 10.0.0.0/8 or 2001:db8::/32"),
    ("maps: {m: {file: pattern, keys: regex}}\n", ("{}/pattern:2: not a regular expression: missing ), unterminated "
     "subpattern at position 0")),
    ("maps: {m: {file: bad, key: host}}\n", "key needs format: csv: a text file has no columns"),
    ("maps: {'a b': bad}\n", "the name of a map is 1 to 64 letters, digits and _ -"),
    ("maps: {plans: bad}\nroutes: [{match: {when: 'map(\"plan\", host) == \"a\"'}, backend: app}]\n",
     "there is no map plan (did you mean plans?)"),
    ("routes: [{set_header: {X-A: '{map:plans:host}'}, backend: app}]\n", "there is no map plans: `maps:` is missing"),
    ("routes: [{match: {not: {when: 'map(\"plans\", host) == \"a\"'}}, backend: app}]\n",
     "there is no map plans: `maps:` is missing"),
    ("routes: [{set_header: {X-A: '{map:plans}'}, backend: app}]\n",
     "expected {map:NAME:FIELD}, such as {map:tenants:host}"),
    ("maps: {m: bad}\nroutes: [{set_header: {X-A: '{map:m:hots}'}, backend: app}]\n",
     "unknown field hots as the key of a map (did you mean host?)"),
    ("maps: {m: bad}\nroutes: [{redirect: '{map:m:host}{cookie:x}'}]\n",
     "clients could choose the host: write / before {cookie:x}"),
])  # fmt: skip
def test_check_names_the_mistake(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text, bad="a 1\n", pattern="a 1\n( 2\n")
    assert [problem.message for problem in error.value.problems] == [said.replace("{}/", f"{tmp_path}/")]


def test_a_changed_file_is_taken_up_and_a_wrong_one_keeps_its_table(tmp_path: Path) -> None:
    first = loaded(tmp_path, "maps: {one: one, two: two}\n", one="a 1\n", two="a 2\n")
    assert renew_maps(first)[1] == {}
    (tmp_path / "one").write_text("a new\n")
    (tmp_path / "two").write_text("a\n")
    second, read = renew_maps(first)
    wrong = f"{tmp_path}/two:1: there is a key without a value: write KEY VALUE"
    assert read == {"one": "", "two": wrong}
    assert [second.maps[name].get(b"a") for name in ("one", "two")] == [b"new", b"2"]
    assert second.digest != first.digest
    assert renew_maps(second)[1] == {}
    (tmp_path / "two").unlink()
    third, read = renew_maps(second)
    assert read == {"two": f"cannot read {tmp_path}/two: no such file or directory"}
    assert third.maps["two"].get(b"a") == b"2"
    assert third.digest == second.digest


def test_the_last_good_configuration_has_the_content_of_its_maps(tmp_path: Path) -> None:
    source = loaded(tmp_path, "maps: {m: file}\n", file="a 1\n").source
    saved = SavedSite(source.text, {path: bytes(content) for path, content in source.files.items()})
    again = loaded(tmp_path, "maps: [", saved, file="wrong\n")
    assert again.maps["m"].get(b"a") == b"1"
    (tmp_path / "file").write_text("a 2\n")
    assert renew_maps(again)[0].maps["m"].get(b"a") == b"2"


def test_a_csv_file_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "f.CSV").write_text("a,1")
    site = loaded(tmp_path, "maps: {m: {file: f.CSV, default: x}}\n").site
    assert (site.maps["m"].format, site.maps["m"].keys) == ("csv", "exact")
