"""What commands load before they know what is wanted of them."""

import subprocess
import sys

LOADED = "import sys, gateway.cli; sys.exit(', '.join({'pydantic', 'gateway.config'} & set(sys.modules)) or 0)"


def test_the_commands_load_what_reads_site_files_only_when_they_need_it() -> None:
    """`gateway reload` and help are there at once: what reads site files takes half a second to load."""
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False, timeout=60.0)
    assert (found.returncode, found.stderr) == (0, "")
