"""Frames byte by byte, as the RFCs have them."""

import struct

from gateway.heartbeat import frames
from gateway.heartbeat.frames import Sighting

MAC = bytes.fromhex("020000000001")


def test_ipv4_is_announced_by_request_and_reply():
    request, reply = frames.announcement("192.0.2.10", MAC)
    ours = MAC + bytes([192, 0, 2, 10])
    head = b"\xff" * 6 + MAC + b"\x08\x06" + bytes.fromhex("0001080006 04".replace(" ", ""))
    assert request == head + b"\x00\x01" + ours + b"\0" * 6 + bytes([192, 0, 2, 10])
    assert reply == head + b"\x00\x02" + ours + b"\xff" * 6 + bytes([192, 0, 2, 10])
    assert frames.read_arp(request) == Sighting(MAC, "192.0.2.10", "192.0.2.10")


def test_a_probe_has_no_sender():
    """RFC 5227 section 1.1: so that it disturbs no cache."""
    assert frames.read_arp(frames.probe("192.0.2.10", MAC)) == Sighting(MAC, "0.0.0.0", "192.0.2.10")


def test_ipv6_is_announced_to_all_nodes_with_override():
    (frame,) = frames.announcement("2001:db8::10", MAC)
    assert frame[:14] == bytes.fromhex("333300000001") + MAC + b"\x86\xdd"
    assert frame[14:22] == bytes.fromhex("60000000 0020 3aff".replace(" ", ""))
    message = frame[54:]
    assert message[0] == 136
    assert message[4:8] == b"\x20\0\0\0"
    assert message[24:] == b"\x02\x01" + MAC
    assert frames.read_advertisement(message) == Sighting(MAC, "2001:db8::10", "2001:db8::10")
    assert valid_checksum(frame)


def test_ipv6_probe_goes_to_the_solicited_node_group():
    """RFC 4862 section 5.4.2."""
    frame = frames.probe("2001:db8::12:3456", MAC)
    assert frame[:6] == bytes.fromhex("3333ff123456")
    assert frame[22:38] == bytes(16)
    assert frame[38:54] == bytes.fromhex("ff0200000000000000000001ff123456")
    assert frame[54] == 135
    assert valid_checksum(frame)


def test_what_is_not_arp_for_ipv4_or_is_cut_says_nothing():
    whole = frames.probe("192.0.2.10", MAC)
    assert all(frames.read_arp(whole[:length]) is None for length in range(len(whole)))
    assert frames.read_arp(whole[:14] + b"\0\x06" + whole[16:]) is None
    assert frames.read_advertisement(b"\x87" + bytes(30)) is None
    assert frames.read_advertisement(b"\x88" + bytes(20)) is None


def valid_checksum(frame):
    packet = frame[22:54] + struct.pack("!II", len(frame) - 54, 58) + frame[54:]
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF
