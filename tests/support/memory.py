"""How much memory a process has had (proc(5))."""

from __future__ import annotations

from pathlib import Path


def forget_peak(pid: int) -> int:
    """The bytes that the process has now, which are its peak from here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_rss(pid)


def peak_rss(pid: int) -> int:
    """The most bytes that the process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
