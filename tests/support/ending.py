"""How tests and benches end a program that they have started."""

import subprocess


def wait_or_kill(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for a process that was told to end; kill it after `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_process(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """End a process: SIGTERM, and SIGKILL after `seconds`."""
    process.terminate()
    wait_or_kill(process, seconds)
