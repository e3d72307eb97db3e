"""Which modes a key file may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tollhouse.trust.pem_files import open_to_others


@pytest.mark.skipif(os.geteuid() != 0, reason="the file must be root's, which only root can make")
@pytest.mark.parametrize(
    ("mode", "fine"), [(0o400, True), (0o440, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_a_mounted_secret_of_roots(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, fine: bool
) -> None:
    """Who is not root may be given root's key through the group, as Kubernetes does it, and no further."""
    key = tmp_path / "key.pem"
    key.touch()
    key.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 65532)
    assert (open_to_others(key) is None) is fine


def test_a_link_is_judged_by_its_target(tmp_path: Path) -> None:
    """Kubernetes mounts secrets as links, whose own mode says nothing."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch(mode=0o600)
    link.symlink_to(target)
    assert open_to_others(link) is None
    target.chmod(0o644)
    why = open_to_others(link)
    assert why is not None
    assert "mode 0644" in why
