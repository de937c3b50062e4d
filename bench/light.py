"""How the policy `measured` spreads the requests of a single client, which sends one after the other. Simulated.

    python -m bench.light

Times are log-normal around 10 ms at speed 1. Prints, over RUNS runs each: the smallest share that one of three equal
servers has had of 300 requests, in thirds; the share of one that is twice as slow, after 50 requests; and how many
requests one that turns ten times slow still gets among the next forty.
"""

import math
import random
import statistics
from dataclasses import dataclass
from typing import Final

import click

from bench.queueing import Answer, Simulated

RUNS: Final = 20
MEAN: Final = 0.01


def false_alarms(sigma: float, answers: int, known: float = math.inf, times: float = 10.0) -> float:
    """The least share of an unchanged server's answers at which a rule takes it for slow, if that rule gives up one
    that turns `times` slow after so many answers in half of all cases.

    `sigma`: of the logarithm of times, which the rule knows; `known`: answers from which it knows the usual time. The
    test of the mean logarithm is the most powerful one (Neyman and Pearson, Phil. Trans. R. Soc. A 231, 1933).
    """
    return statistics.NormalDist().cdf(-math.log(times) / (sigma * math.sqrt(1 / answers + 1 / known)))


@dataclass(frozen=True, slots=True)
class OneClient:
    """`sigma` of the logarithm of times; `think` seconds between requests, exponential, in the mean."""

    sigma: float
    think: float = 0.0
    workers: int = 2

    def run(self, requests: int, speeds: tuple[float, ...], seed: int, later: tuple[float, ...] = ()) -> list[int]:
        """The server of each request; `later` are the servers' speeds in the second half."""
        chance = random.Random(seed)  # noqa: S311 - the same each time
        policy = Simulated("measured", len(speeds), self.workers, seed)
        now, picked = 0.0, []
        for number in range(requests):
            now += chance.expovariate(1 / self.think) if self.think else 1e-6
            server = policy.pick(now, 0.0, ())
            ticket = policy.ticket()
            speed = (later if later and number >= requests // 2 else speeds)[server]
            seconds = chance.lognormvariate(math.log(MEAN) - self.sigma**2 / 2, self.sigma) / speed
            policy.done(now + seconds, Answer(now, seconds, good=True, server=server), ticket)
            now += seconds
            picked.append(server)
        return picked

    def least_of_equals(self, runs: int = RUNS) -> list[float]:
        """The smallest share of three equal servers in each run, over a third; sorted."""
        return sorted(min(map(self.run(300, (1, 1, 1), seed).count, range(3))) / 100 for seed in range(runs))

    def share_of_a_slow_one(self, runs: int = RUNS) -> list[float]:
        """The share of a server twice as slow as two others after 50 requests; sorted."""
        return sorted(self.run(150, (1, 1, 0.5), seed)[50:].count(2) / 100 for seed in range(runs))

    def until_left(self, runs: int = RUNS) -> list[int]:
        """Requests of forty that go to a server which has turned ten times slow; sorted."""
        picked = (self.run(400, (1, 1, 1), seed, (1, 1, 0.1))[200:240] for seed in range(runs))
        return sorted(run.count(2) for run in picked)


@click.command()
def main() -> None:
    """Show the spread of a single client's requests."""
    heads = ("sigma", "think", "workers", "equal: median", "worst", "2x slower", "10x slow: median")
    click.echo("".join(head.rjust(width) for head, width in zip(heads, (6, 7, 8, 15, 7, 11, 18), strict=True)))
    for sigma in (0.5, 0.75, 1.0):
        for think in (0.0, 0.1, 2.0):
            for workers in (1, 2, 4):
                client = OneClient(sigma, think, workers)
                equal = client.least_of_equals()
                click.echo(
                    f"{sigma:6g}{think:7g}{workers:8d}{statistics.median(equal):15.2f}{equal[0]:7.2f}"
                    f"{statistics.median(client.share_of_a_slow_one()):11.2f}{statistics.median(client.until_left()):18g}"
                )


if __name__ == "__main__":
    main()
