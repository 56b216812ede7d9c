"""The initramfs archive, read back by an independent reader."""

from __future__ import annotations

import subprocess
from pathlib import Path

from holdfast.lab.image import cpio_archive


def test_the_archive_is_what_cpio_unpacks(tmp_path: Path) -> None:
    archive = cpio_archive(("dev",), {"init": (0o755, b"#!x"), "lib/a/b.so": (0o644, b"12345")})
    subprocess.run(["busybox", "cpio", "-id"], input=archive, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "dev").is_dir()
    assert (tmp_path / "init").read_bytes() == b"#!x"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "lib/a/b.so").read_bytes() == b"12345"
