"""Work in steps."""

from gateway.heartbeat.jobs import Jobs, Run


class Log:
    def __init__(self):
        self.runs: list[tuple[int, str]] = []
        self.said: list[object] = []
        self.jobs = Jobs(lambda number, run: self.runs.append((number, run.program)))

    def job(self, *steps):
        for step in steps:
            status = yield step
            self.said.append((step, status))
        self.said.append("end")


def test_first_step_at_once_and_the_others_in_time():
    log = Log()
    log.jobs.add("a", log.job(1.0, 2.0), 10.0)
    assert log.jobs.next_due() == 11.0
    log.jobs.tick(10.9)
    assert log.said == []
    log.jobs.tick(11.0)
    assert log.said == [(1.0, 0)]
    log.jobs.tick(13.0)
    assert log.said == [(1.0, 0), (2.0, 0), "end"]
    assert len(log.jobs) == 0
    assert log.jobs.next_due() == float("inf")


def test_a_program_gives_its_status():
    log = Log()
    run = Run("/bin/x")
    log.jobs.add("a", log.job(run), 10.0)
    assert log.runs == [(1, "/bin/x")]
    log.jobs.tick(99.0)
    assert log.said == []
    log.jobs.ended(1, 7, 99.0)
    assert log.said == [(run, 7), "end"]


def test_cancelled_jobs_stop_and_late_answers_are_ignored():
    log = Log()
    log.jobs.add("a", log.job(Run("/bin/x"), 1.0), 10.0)
    log.jobs.add("b", log.job(1.0), 10.0)
    log.jobs.cancel("a")
    log.jobs.ended(1, 0, 10.5)
    log.jobs.tick(11.0)
    assert log.said == [(1.0, 0), "end"]


def test_a_job_may_cancel_its_equals():
    log = Log()

    def killer():
        yield 1.0
        log.jobs.cancel("b")

    log.jobs.add("a", killer(), 10.0)
    log.jobs.add("b", log.job(1.0), 10.0)
    log.jobs.tick(11.0)
    assert log.said == []
    assert len(log.jobs) == 0
