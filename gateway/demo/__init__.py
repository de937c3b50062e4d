"""A demonstration on one machine: three unequal servers, each with its load agent, behind a gateway."""

from gateway.demo.setup import run, site

__all__ = ["run", "site"]
