"""A site file that comes over HTTP."""

from typing import Final

LARGEST: Final = 1024 * 1024
"""Characters. Escaped twice, as JSON within JSON, they fit into a report to the supervisor (process/channel.py)."""
