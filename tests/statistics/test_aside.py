"""Work done aside runs in order, holds no more than allowed, and loses no error."""

import threading
import time

import pytest

from spatialprobe.statistics.aside import Aside


def test_everything_runs_in_order_in_one_other_thread():
    """What is added runs once, in order, in one thread that is not the caller's and ends when asked."""
    aside, seen, threads = Aside(), [], set()

    def work(number):
        seen.append(number)
        threads.add(threading.current_thread())

    for number in range(50):
        aside.add(lambda number=number: work(number), 1)
    aside.finish()
    assert seen == list(range(50))
    (thread,) = threads
    assert thread is not threading.current_thread()
    aside.end()
    aside.end()
    assert not thread.is_alive()
    aside.add(lambda: work(50), 1)  # begins again
    aside.finish()
    assert seen[-1] == 50
    aside.end()


def test_what_is_held_is_bounded():
    """The next function waits until it fits, and one that is too large alone waits until nothing else is held."""
    aside, gate, held = Aside(limit=10), threading.Semaphore(0), []
    done = []

    def work(number):
        gate.acquire()
        done.append(number)

    for number in range(2):
        aside.add(lambda number=number: work(number), 5)
    adding = threading.Thread(target=lambda: (aside.add(lambda: held.append(list(done)), 100), held.append("added")))
    adding.start()
    gate.release()
    adding.join(0.05)
    assert adding.is_alive()  # 5 of 10 are still held
    gate.release()
    adding.join()
    aside.finish()
    assert [0, 1] in held
    aside.end()


def test_an_error_is_raised_where_it_can_be_seen():
    """Nothing runs after an error, which is raised at the next call, and at the end, but not while all is undone."""
    aside, seen = Aside(), []

    def fail():
        raise OSError("full")

    aside.add(fail, 1)
    aside.end()
    with pytest.raises(OSError, match="full"):
        aside.add(lambda: seen.append(1), 1)
    with pytest.raises(OSError, match="full"):
        aside.finish()
    assert seen == []


def test_nothing_runs_after_the_end_of_an_interrupted_thread(monkeypatch):
    """A thread that an interrupt leaves unregistered, as it starts, runs nothing any more once all is ended."""
    aside, seen, started = Aside(), [], []
    start = threading.Thread.start

    def start_and_raise(thread):
        started.append(thread)
        start(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_and_raise)
        with pytest.raises(KeyboardInterrupt):
            aside.add(lambda: (time.sleep(0.02), seen.append(1)), 1)
    aside.end()
    at_the_end = list(seen)
    started[0].join()
    assert seen == at_the_end
    aside.add(lambda: seen.append(2), 1)  # begins again
    aside.end()
    assert seen[-1] == 2
