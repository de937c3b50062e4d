import os
import threading
import time

from gateway.bulletin import SIZE, Bulletin


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


def test_what_was_said_long_ago_is_forgotten():
    board = Bulletin()
    board.post({"a": 1})
    assert board.read(60.0) == {"a": 1}
    time.sleep(0.01)
    assert board.read(0.005) is None


def test_what_does_not_fit_leaves_what_was_there():
    board = Bulletin()
    board.post({"a": 1})
    board.post({"a": "x" * SIZE})
    assert board.read() == {"a": 1}


def test_who_reads_while_it_is_written_sees_one_word_or_the_other():
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
