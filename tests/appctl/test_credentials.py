"""Secrets are on the disk encrypted, or not at all."""

from pathlib import Path
from typing import Any

import pytest
from appctl import credentials
from appctl.process import CtlError


def test_a_host_that_cannot_encrypt_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*command: str, **_: Any) -> str:
        raise CtlError(f"{command[0]}: No such file or directory")

    monkeypatch.setattr(credentials, "run", fail)
    with pytest.raises(CtlError, match=r"cannot encrypt the credential password, .* systemd-creds: No such") as caught:
        credentials.encrypt({"password": "s3cr3t"}, tmp_path / "credentials")
    assert "s3cr3t" not in str(caught.value)
    assert list((tmp_path / "credentials").iterdir()) == []
