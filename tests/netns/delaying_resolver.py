"""A resolver that is farther from some hosts than from others: it answers all that it is asked with REFUSED, after as
many milliseconds as a file of JSON says of the client, which is read anew each time. Prints the addresses that ask.

    python delaying_resolver.py ADDRESS FILE
"""

import json
import socket
import sys
import threading
from pathlib import Path


def main(address: str, delays: Path) -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((address, 53))
    while True:
        query, client = sock.recvfrom(512)
        sys.stdout.write(client[0] + "\n")
        sys.stdout.flush()
        answer = query[:2] + b"\x80\x05" + query[4:]
        delay = json.loads(delays.read_text())[client[0]] / 1000.0
        threading.Timer(delay, sock.sendto, (answer, client)).start()


main(sys.argv[1], Path(sys.argv[2]))
