"""The control process: collects the state of the servers and publishes it on the Board."""

from gateway.control.control import Control

__all__ = ["Control"]
