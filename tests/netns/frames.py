"""Every frame on the interface eth0 in which a host claims one of ADDRESSES unasked, a line of JSON each, until SIGTERM.

That is ARP requests and replies from it, and unsolicited neighbour advertisements of it: (time, kind, address, hardware
address claimed, hardware address of the sender, destination).
"""

import json
import signal
import socket
import sys
import time
from ipaddress import ip_address


def claim(frame: bytes) -> tuple[str, bytes, bytes] | None:
    """(kind, address, hardware address) of a claim."""
    if frame[12:14] == b"\x08\x06" and frame[28:32] != bytes(4):
        return {1: "request", 2: "reply"}.get(frame[21], ""), frame[28:32], frame[22:28]
    if frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136 and not frame[58] & 0x40:
        return "advertisement", frame[62:78], frame[80:86]
    return None


def main() -> None:
    wanted = {ip_address(text).packed: text for text in sys.argv[1:]}
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind(("eth0", 3))
    sock.settimeout(0.1)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    print("ready", flush=True)  # noqa: T201
    while not ended:
        try:
            frame = sock.recv(2048)
        except TimeoutError:
            continue
        said = claim(frame)
        if said is not None and said[1] in wanted:
            kind, address, mac = said
            ends = mac.hex(":"), frame[6:12].hex(":"), frame[:6].hex(":")
            print(json.dumps((time.time(), kind, wanted[address], *ends)), flush=True)  # noqa: T201


main()
