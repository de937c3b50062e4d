"""The site file: from YAML to a typed model and a snapshot; errors have their position."""

from gateway.config.json_schema import schema
from gateway.config.loader import Endpoint, Loaded, load
from gateway.config.model import Site
from gateway.config.problem import ConfigError, Problem
from gateway.config.rows import CapacityError
from gateway.config.snapshot import Snapshot

__all__ = [
    "CapacityError",
    "ConfigError",
    "Endpoint",
    "Loaded",
    "Problem",
    "Site",
    "Snapshot",
    "load",
    "schema",
]
