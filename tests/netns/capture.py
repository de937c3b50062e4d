"""A witness at the switch: at which port a host answers for each of ADDRESSES, every change of it, until SIGTERM.

Somebody speaks for an address who sends IP packets from it, or ARP or neighbour advertisements that claim it.
"""

import json
import signal
import socket
import sys
import time
from ipaddress import ip_address

OUTGOING = 4  # PACKET_OUTGOING


def claimed(frame: bytes) -> bytes | None:
    """The address that the sender of `frame` claims to have."""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        return frame[26:30]
    if kind == b"\x08\x06":
        return frame[28:32]
    if kind == b"\x86\xdd":
        if frame[20] == 58 and frame[54] == 136:
            return frame[62:78]
        return frame[22:38]
    return None


def main() -> None:
    wanted = {ip_address(text).packed: text for text in sys.argv[1:]}
    turns: dict[str, list[tuple[float, str]]] = {text: [] for text in sys.argv[1:]}
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.settimeout(0.1)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    print("ready", flush=True)  # noqa: T201
    while not ended:
        try:
            frame, (port, _, direction, *_) = sock.recvfrom(2048)
        except TimeoutError:
            continue
        if direction == OUTGOING or not port.startswith("p-"):
            continue
        address = claimed(frame)
        text = wanted.get(address) if address else None
        if text is not None and (not turns[text] or turns[text][-1][1] != port):
            turns[text].append((time.time(), port))
    print(json.dumps({"turns": turns}))  # noqa: T201


main()
