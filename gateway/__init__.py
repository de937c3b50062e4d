"""An intelligent HTTP gateway: accepts, routes, balances by measured load, forwards."""

import sys

# `python -m gateway` (argv[0] is -m while its module is searched) puts the current directory first in sys.path: another
# user's json.py there would shadow the library's. It is removed unless this package itself comes from there, and
# before any other import.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] != __path__[0].rpartition("/")[0]:
    del sys.path[0]

import os

# Packages that happen to be installed beside this one must not run in its processes, and a search for them would read
# the metadata of all packages at each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

__version__ = "0.1.0"
