"""Run one input of the connections again: `python -m tests.fuzz.replay FILE`; tells what each event did."""

import faulthandler
import sys
from pathlib import Path

from tests.fuzz.connections import Run, encode, events, perform, world
from tests.fuzz.oracle import Violation


def main(path: Path) -> int:
    """Replay a file; return the exit status."""
    faulthandler.enable()
    data = encode(path.read_text())
    made = world(data)
    run = Run(made)
    say = sys.stdout.write
    say(f"site {made.variant.name}\n")
    try:
        for what in events(data):
            say(f"{what!s:40}")
            sys.stdout.flush()
            told = perform(run, what)
            clients = " ".join("-" if client is None else client.state() for client in made.clients)
            servers = " ".join(f"s{conn.server}:{conn.state()}" for origin in made.origins for conn in origin.conns)
            say(f"{told or 'nothing':16} clients {clients}  servers {servers}\n")
        made.settle()
        made.finish()
    except Violation as violation:
        say(f"\nwrong: {violation}\n")
        return 1
    say("nothing is wrong\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
