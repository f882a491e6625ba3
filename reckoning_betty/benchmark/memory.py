"""A process's resident memory, and a limit on it, on Linux; elsewhere what the standard library can tell."""

import contextlib
import ctypes
import gc
import resource
from pathlib import Path

from reckoning_betty.training.run_directory import peak_memory_mib

STATUS = Path("/proc/self/status")


def resident_mib() -> float:
    """Now, after giving back to the system what is free."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS") or peak_memory_mib()


def forget_peak() -> None:
    """Start the peak anew from what is resident now, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib() -> float:
    """The largest resident size since ``forget_peak``. Unlike ru_maxrss, nothing of the parent's is in it."""
    return _status("VmHWM") or peak_memory_mib()


def limit_memory(mib: float) -> None:
    """Let allocations fail from ``mib`` more than there is now, before the system kills processes for want of them."""
    used = _status("VmData")
    if used is not None:
        size = int((used + mib) * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def available_mib() -> float | None:
    """What the machine could still give, if it says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _status(key: str) -> float | None:
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), None)
