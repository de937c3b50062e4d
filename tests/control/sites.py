"""Snapshots for the tests of control, made from the text of a site file."""

from pathlib import Path
from typing import Any

import yaml

from gateway.config import Snapshot, load

KEY = b"0123456789abcdef"


def snapshot(directory: Path, backends: dict[str, Any], before: Snapshot | None = None, **site: Any) -> Snapshot:
    """Return the snapshot of a site with these backends and other keys: the one after `before`, if given."""
    key = directory / "agent.key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    path = directory / "site.yaml"
    content = {"frontends": [{"listen": "127.0.0.1:8080"}], "backends": backends, **site}
    content.setdefault("routes", [{"respond": {"status": 200}}])
    path.write_text(yaml.safe_dump(content))
    loaded = load(path)
    return before.next(loaded) if before else Snapshot.first(loaded)
