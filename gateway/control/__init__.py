"""The control process: collects what is known of the servers and publishes it on the Board."""

from gateway.control.control import Control

__all__ = ["Control"]
