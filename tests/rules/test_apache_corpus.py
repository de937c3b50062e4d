"""Our own files of Apache's rules, in the shapes that applications use, beside Apache itself: the same answers."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from gateway.config import ConfigError, load
from gateway.explain.asked import Asked
from gateway.explain.sandbox import Sandbox
from tests.support.apache import normal
from tests.support.apache_corpus import MAPS, SERVERS, USERS, Answer, Case, CorpusApache, Question, cases
from tests.support.programs import needs

CORPUS = cases()
LOADING = {name: case for name, case in CORPUS.items() if not case.refused}


@pytest.fixture(scope="module")
def apache() -> Iterator[CorpusApache]:
    with tempfile.TemporaryDirectory() as path, CorpusApache(Path(path), [LOADING[name] for name in ASKED]) as process:
        yield process


def site(directory: Path, case: Case, certificate: dict[str, str] | None = None) -> Path:
    (directory / case.name).write_text(case.rules.replace("/etc/apache2/.htpasswd", ".htpasswd"))
    (directory / ".htpasswd").write_text(USERS)
    for name, content in MAPS.items():
        (directory / name).write_text(content)
    tls = f', {{listen: "127.0.0.1:443", tls: {{certificates: [{certificate}]}}}}' if certificate else ""
    servers = "".join(f', "{name}": {{servers: ["{name}"]}}' for name in SERVERS)
    (directory / "site.yaml").write_text(
        f'frontends: [{{listen: "127.0.0.1:80"}}{tls}]\nbackends: {{app: {{servers: ["127.0.0.1:1"]}}{servers}}}\nroutes:\n'
        f"  - apache: {{file: {case.name}, exists: {list(case.exists)}}}\n  - backend: app\n"
    )
    return directory / "site.yaml"


def ours(found: Sandbox, case: Case, question: Question) -> Answer:
    asked = Asked(question.method, question.scheme, question.host, question.target, question.fields, "127.0.0.1")
    result = found.decide(asked)
    if "refused" in result:
        return Answer(result["refused"][0])
    names = case.named("Header")
    lines = result.get("lines") or (result.get("edits") or {}).get("with", "")
    pairs = [line.partition(": ") for line in lines.splitlines()]
    fields = tuple(sorted((name.lower(), value) for name, _, value in pairs if name.lower() in names))
    if result["outcome"] == "backend":
        path, _, query = result["head"].split(" ")[1].partition("?")
        wanted = case.named("RequestHeader") if result["backend"] == "app" else ()
        heads = [line.partition(": ") for line in result["head"].splitlines()[1:]]
        sent = tuple(sorted((name.lower(), value) for name, _, value in heads if name.lower() in wanted))
        return Answer(200, result["backend"], unquote_to_bytes(path), unquote_to_bytes(query), fields, sent)
    if result["status"] in range(300, 400):
        location = next(line for line in result["lines"].splitlines() if line.startswith("Location:"))
        return Answer(result["status"], to=normal(location[10:]), fields=fields)
    return Answer(result["status"], fields=fields)


ASKED = [name for name, case in LOADING.items() if case.questions]


@needs("apache2")
@pytest.mark.parametrize("name", ASKED)
def test_every_request_is_answered_as_apache_does(apache: CorpusApache, tmp_path: Path, name: str) -> None:
    case = LOADING[name]
    differ = []
    with Sandbox(load(site(tmp_path, case, apache.certificate.as_site()))) as found:
        for question in (*case.questions, *case.differing):
            theirs, mine = apache.ask(case, question), ours(found, case, question)
            if (mine != theirs) != (question in case.differing):
                differ.append(f"{question.text}\n  gateway {mine}\n  apache  {theirs}")
    assert not differ, "\n".join(differ)


@pytest.mark.parametrize("name", sorted(CORPUS.keys() - LOADING.keys()))
def test_what_cannot_be_done_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(site(tmp_path, CORPUS[name]))
    assert CORPUS[name].refused in str(caught.value)


def test_most_files_load_as_they_are_found(tmp_path: Path) -> None:
    for name in LOADING.keys() - set(ASKED):
        assert load(site(tmp_path, LOADING[name])).rules
    assert len(LOADING) >= 53
    assert len(LOADING) >= 0.9 * len(CORPUS)
