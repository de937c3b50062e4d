"""An intelligent HTTP gateway: accepts, routes, balances by measured load, forwards."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("eddie-gateway")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
