import ctypes
import mmap
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import pytest

from gateway.process.bulletin import HEADER, SIZE, Bulletin


def test_the_newest_word_counts_and_a_child_reads_it():
    board = Bulletin()
    assert board.read() is None
    board.post({"a": "long enough to leave something behind"})
    board.post({"a": 1})
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, repr(board.read()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 100) == b"{'a': 1}"
    os.close(reading)
    os.close(writing)


def test_an_old_report_expires():
    board = Bulletin()
    board.post({"a": 1})
    assert board.read(60.0) == {"a": 1}
    time.sleep(0.01)
    assert board.read(0.005) is None


def test_a_report_that_is_too_long_keeps_the_previous_one():
    board = Bulletin()
    board.post({"a": 1})
    board.post({"a": "x" * SIZE})
    assert board.read() == {"a": 1}


def test_a_reader_during_a_write_sees_one_whole_report():
    board = Bulletin()
    words = [{"word": str(i) * 50_000} for i in range(2)]
    board.post(words[0])
    done = threading.Event()

    def write():
        for i in range(400):
            board.post(words[i % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not (done.is_set() and seen):
        found = board.read()
        assert found is None or found in words
        seen += found is not None
    writer.join()


def in_child(work):
    """What `work` returns in a forked child, as text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(work()).encode())
        except RuntimeError as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def mappings():
    """(address, protection) of each mapping of a bulletin in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [(int(line.partition("-")[0], 16), line.split()[1]) for line in lines if "/memfd:gateway-bulletin" in line]


def test_a_child_can_read_and_never_write():
    before = {address for address, _ in mappings()}
    board = Bulletin()
    board.post({"a": 1})
    ours = [(address, protection) for address, protection in mappings() if address not in before]
    assert sorted(protection for _, protection in ours) == ["r--s", "rw-s"]

    def attack():
        with pytest.raises(RuntimeError):
            board.post({"a": 2})
        mine = [(address, protection) for address, protection in mappings() if address not in before]
        libc = ctypes.CDLL(None)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        writable = [libc.mprotect(address, SIZE, mmap.PROT_READ | mmap.PROT_WRITE) for address, _ in mine]
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(mine[0][0])
            with pytest.raises(OSError, match="error"):
                memory.write(b"forged")
        return [protection for _, protection in mine], writable, board.read()

    assert in_child(attack) == "(['r--s'], [-1], {'a': 1})"
    assert "bulletin" not in str([link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_file()])


def test_it_is_handed_on_to_one_child_alone():
    board = Bulletin()

    def write():
        board.post({"from": "child"})
        return in_child(lambda: board.post({"from": "grandchild"}))

    with board.handed_on():
        pid = os.fork()
    if pid == 0:
        os._exit(0 if "may only read" in write() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert board.read() == {"from": "child"}
    assert "may only read" in in_child(lambda: board.post({"from": "another child"}))


@pytest.mark.parametrize("text", [b"", b"[1]", b"1", b"{", b"\xff", b"[" * 100_000], ids=range(6))
def test_json_that_is_not_an_object_is_ignored(text):
    """A writer that was broken into may say anything."""
    board = Bulletin()
    ctypes.memmove(board._writing + HEADER.size, text, len(text))
    ctypes.memmove(board._writing, HEADER.pack(len(text), zlib.crc32(text), time.monotonic()), HEADER.size)
    assert board.read() is None


@pytest.mark.parametrize("length", [SIZE, 2**32 - 1])
def test_a_length_beyond_the_memory_is_nothing(length):
    board = Bulletin()
    ctypes.memmove(board._writing, HEADER.pack(length, 0, time.monotonic()), HEADER.size)
    assert board.read() is None


def test_a_time_that_is_no_number_is_never_new():
    board = Bulletin()
    board.post({"a": 1})
    ctypes.memmove(board._writing + 8, struct.pack("=d", float("nan")), 8)
    assert board.read() is None
