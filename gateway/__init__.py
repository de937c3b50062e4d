"""An intelligent HTTP gateway: accepts, routes, balances by measured load, forwards."""

import sys

# `python -m gateway`, which is looking for its module now (that is what this argv[0] says), has the current directory
# before all others: whoever may write there could put a json.py in the place of the library's. It stays only where this
# package itself is from there. Hence before everything else that is imported.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] != __path__[0].rpartition("/")[0]:
    del sys.path[0]

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("eddie-gateway")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
