"""Compares the versions that the project names with the advisories that it knows of (.ci/advisories.json).

    python .ci/audit.py                    without a network: every pin and every lower bound
    python .ci/audit.py --ask PIP_AUDIT    and what the index tells PIP_AUDIT; what is new belongs into the list

A pin (constraints.txt, lock/) or a lower bound (pyproject.toml) that an advisory is about is a mistake unless the list
accepts it, with a reason and a day. The exit status is 1 if there is one.
"""

import datetime as dt
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / ".ci" / "advisories.json"
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:==|>=)\s*([0-9][^\s\\;,]*)")


def plain(name):
    """Return a package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ordered(version):
    """Return what versions compare by, 1.0 like 1; pre-releases are not among ours."""
    return [int(part) for part in re.findall(r"[0-9]+", re.sub(r"(\.0)+$", "", version))]


def named(root=ROOT):
    """Find (where, package, version) of all that the project names."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    bounds = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        bounds += extra
    texts = [("pyproject.toml", line) for line in bounds]
    for path in (root / "constraints.txt", *sorted((root / "lock").glob("*.txt"))):
        texts += [(path.name, line) for line in path.read_text().splitlines() if re.match(r"[A-Za-z0-9]", line)]
    for where, line in texts:
        found = REQUIREMENT.match(line)
        if found:
            yield where, plain(found.group(1)), found.group(2)


def compare(items, known, today):
    """Return a line for each item that an advisory is about, and for each acceptance that is over."""
    accepted = {(plain(item["package"]), item["id"]): item for item in known["accepted"]}
    problems = [
        f"{item['package']}: {item['id']} was accepted until {item['until']}"
        for item in known["accepted"]
        if item["until"] < today
    ]
    for where, package, version in items:
        for advisory in known["advisories"]:
            about = plain(advisory["package"]), advisory["id"]
            if about[0] == package and ordered(version) < ordered(advisory["fixed"]) and about not in accepted:
                problems.append(f"{where}: {package} {version} has {advisory['id']}: take {advisory['fixed']}")
    return problems


def asked(program, known):
    """Return a line for each vulnerability that the index tells of and the list does not have."""
    command = [program, "--disable-pip", "--no-deps", "--requirement", "constraints.txt", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = json.loads(done.stdout or '{"dependencies": []}')["dependencies"]
    untold = [item["name"] for item in said if "skip_reason" in item]
    if untold or not said:
        sys.stdout.write(f"the index does not say what is known of {len(untold) or 'all'} packages\n")
    ids = {advisory["id"] for advisory in known["advisories"]}
    return [
        f"{item['name']} {item['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'no release'}"
        for item in said
        for fault in item.get("vulns", ())
        if not ids & {fault["id"], *fault["aliases"]}
    ]


if __name__ == "__main__":
    advisories = json.loads(LIST.read_text())
    found = compare(named(), advisories, dt.datetime.now(tz=dt.timezone.utc).date().isoformat())
    if sys.argv[1:2] == ["--ask"]:
        found += asked(sys.argv[2], advisories)
    said = "\n".join(found) or f"nothing known against any version, by the list of {advisories['date']}"
    sys.stdout.write(f"{said}\n")
    sys.exit(bool(found))
