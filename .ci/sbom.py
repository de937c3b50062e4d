"""Prints what the installed package consists of: a CycloneDX 1.5 document with every package that it runs on.

    python .ci/sbom.py > sbom.json

Source: https://cyclonedx.org/docs/1.5/json/. Hashes are those of the lock, one for each file of a release. The same
environment gives the same bytes.
"""

import hashlib
import json
import re
import sys
import uuid
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = "eddie-gateway"
NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562, for OIDs: any fixed one will do


def plain(name):
    """Return a package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name):
    """Return the names of the packages that one needs to run here, without extras."""
    found = set()
    for text in distribution(name).requires or ():
        wanted, _, marker = text.partition(";")
        if "extra" in marker:
            continue
        other = plain(re.match(r"[A-Za-z0-9._-]+", wanted.strip()).group())
        try:
            distribution(other)
        except PackageNotFoundError:
            continue  # for another system or another Python
        found.add(other)
    return found


def tree():
    """Return what each package needs, from ours on."""
    found = {}
    left = {OURS}
    while left:
        name = left.pop()
        found[name] = needed(name)
        left |= found[name] - found.keys()
    return found


def hashes():
    """Return the SHA-256 of the files of each package, by the lock."""
    text = (ROOT / "lock" / "run.txt").read_text().replace(" \\\n", " ")
    entries = (line for line in text.splitlines() if "==" in line)
    return {plain(entry.partition("==")[0]): re.findall(r"sha256:([0-9a-f]{64})", entry) for entry in entries}


def licence(metadata):
    """Return what a package says of its licence, as CycloneDX has it."""
    expression = metadata.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    named = [text.split(" :: ")[-1] for text in metadata.get_all("Classifier", ()) if text.startswith("License ::")]
    return [{"license": {"name": name}} for name in named]


def component(name, kind, files):
    """Return one package."""
    metadata = distribution(name).metadata
    reference = f"pkg:pypi/{name}@{metadata['Version']}"
    found = {"type": kind, "bom-ref": reference, "name": name, "version": metadata["Version"], "purl": reference}
    if files:
        found["hashes"] = [{"alg": "SHA-256", "content": digest} for digest in sorted(files)]
    licences = licence(metadata)
    if licences:
        found["licenses"] = licences
    return found


def vendored():
    """Return what others made and the package itself has: the file, the npm package, its version, its licence."""
    found = []
    for path, name, version, name_of_licence in (("gateway/admin/page/uplot.js", "uplot", "1.6.32", "MIT"),):
        reference = f"pkg:npm/{name}@{version}"
        digest = hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
        found.append(
            {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference,
             "hashes": [{"alg": "SHA-256", "content": digest}], "licenses": [{"license": {"id": name_of_licence}}]}
        )  # fmt: skip
    return found


def document():
    """Return the whole document."""
    needs, files = tree(), hashes()
    made = {name: component(name, "application" if name == OURS else "library", files.get(name)) for name in needs}
    others = [made[name] for name in sorted(needs) if name != OURS]
    inside = vendored()
    depends = {made[name]["bom-ref"]: sorted(made[other]["bom-ref"] for other in needs[name]) for name in sorted(needs)}
    depends[made[OURS]["bom-ref"]] += [one["bom-ref"] for one in inside]
    depends |= {one["bom-ref"]: [] for one in inside}
    serial = uuid.uuid5(NAMESPACE, json.dumps([made, inside], sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": made[OURS]},
        "components": [*others, *inside],
        "dependencies": [{"ref": reference, "dependsOn": on} for reference, on in depends.items()],
    }


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(document(), indent=2)}\n")
