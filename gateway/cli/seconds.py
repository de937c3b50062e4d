"""A time as a value of an option: seconds, or with a unit as in site files."""

from typing import Any

import click


class Seconds(click.ParamType[float]):
    """A number of seconds, or a duration such as 250ms, 1s or 10m; at least `least` and at most `most` seconds."""

    name = "seconds"

    def __init__(self, least: float = 0.0, most: float = float("inf")) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; ends the program for what is none, or out of bounds."""
        from gateway.config.units import duration  # noqa: PLC0415

        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = duration(value)
            except ValueError as error:
                self.fail(f"{error}, or a number of seconds", param, ctx)
        if not self._least <= seconds <= self._most:
            bounds = f"at least {self._least:g}"
            bounds += f" and at most {self._most:g}" if self._most < float("inf") else ""
            self.fail(f"{value} is out of bounds: {bounds} seconds", param, ctx)
        return seconds
