"""What can be said of a wheel without building one: `make wheel-check` does, and runs a gateway from it."""

import re
import runpy
import tomllib

from tests.support.backend_server import ROOT

LEFT_OUT = runpy.run_path(str(ROOT / ".ci" / "wheel.py"))["left_out"]()
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_its_modules_need_the_c_library_and_what_stays_the_systems():
    modules = [path for top in ("gateway", "qos") for path in (ROOT / top).rglob("*.so")]
    assert len(modules) > 50
    named = {
        name.decode() for path in modules for name in re.findall(rb"\0(lib[\w.+-]+\.so\.\d+)(?=\0)", path.read_bytes())
    }
    assert named == {"libc.so.6", *LEFT_OUT}
    assert {"libssl.so.3", "libcrypto.so.3"} == set(LEFT_OUT)


def test_the_settings_build_for_every_python_that_is_supported():
    oldest = SETTINGS["project"]["requires-python"].removeprefix(">=").replace(".", "")
    assert f"cp{oldest}-*" in SETTINGS["tool"]["cibuildwheel"]["build"]
