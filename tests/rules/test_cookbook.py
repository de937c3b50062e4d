"""Every example of docs/rules.md loads without a warning and passes its own tests."""

import re
from pathlib import Path

import pytest
import yaml

from gateway.config import load
from gateway.explain import trial

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FRAME = """\
frontends: [{listen: "127.0.0.1:80"}]
backends:
  app: {servers: ["127.0.0.1:9001"]}
  static: {servers: ["127.0.0.1:9002"]}
"""


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 13
    assert all("tests:" in example for example in EXAMPLES)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(tmp_path: Path, number: int) -> None:
    text = EXAMPLES[number]
    for name, content in yaml.safe_load(text).get("files", {}).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(content)
    text = re.sub(r"^files:\n(?:  .*\n)+", "", text, flags=re.MULTILINE)
    (tmp_path / "site.yaml").write_text(FRAME + text)
    loaded = load(tmp_path / "site.yaml")
    assert [str(warning) for warning in loaded.warnings if "no route leads to" not in warning.message] == []
    assert [trial.diff(verdict) for verdict in trial.run(loaded) if verdict.differences] == []


@pytest.mark.parametrize("word", [
    "getDayOfWeek", "lowerAscii", "in_network", "append_response_header", "UnsafeAllow3F", "{path_rest}", "sessions()",
])  # fmt: skip
def test_the_page_names(word: str) -> None:
    assert word in PAGE
