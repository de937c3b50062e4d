"""Looks again at the tests that failed in a long run: a fault fails again, a busy machine does not.

    python .ci/second_look.py TREE REPORT COMMAND...

TREE is where pytest ran, REPORT the junit file of that run, COMMAND runs pytest on the tests whose ids are added to it.
Each test must pass ROUNDS times, one after the other, with nothing beside it. There is no second look if more than MOST
failed, or if a process of the gateway died: that is a fault however seldom it happens. What failed was printed by the
first run, and is named again at the end, so that a test which depends on time is seen and mended.
"""

import json
import subprocess
import sys
from pathlib import Path

ROUNDS = 3
MOST = 3
DIED = "processes of the gateway died"
"""As tests/support/deaths.py says it."""


def failed(tree):
    """Return the ids of the tests that failed in the last run, none if pytest did not come to its end."""
    cache = Path(tree, ".pytest_cache/v/cache/lastfailed")
    return sorted(json.loads(cache.read_text())) if cache.exists() else []


def refusal(tests, report):
    """Return why these failures are final, empty if they are worth a second look."""
    if not tests:
        return "it was not a test that failed"
    if len(tests) > MOST:
        return f"{len(tests)} tests failed, more than the {MOST} that a busy machine explains"
    if not report.exists():
        return f"there is no report {report}"
    if DIED in report.read_text(errors="replace"):
        return "a process of the gateway died"
    return ""


def say(text):
    """Print a line before what pytest prints next."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(tree, report, *command):
    """Return the exit status: 0 if every test that had failed passes each time."""
    tests = failed(tree)
    if why := refusal(tests, Path(report)):
        say(f"no second look: {why}")
        return 1
    for number in range(1, ROUNDS + 1):
        say(f"second look, round {number} of {ROUNDS}: {', '.join(tests)}")
        if status := subprocess.run([*command, *tests], check=False).returncode:
            return status
    say(f"UNSTEADY: failed once in the whole run, passed {ROUNDS} times alone: {', '.join(tests)}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
