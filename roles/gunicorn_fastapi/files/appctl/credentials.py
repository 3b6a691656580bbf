"""The application's secrets on the disk: encrypted by the host's key, for one release."""

import re
from pathlib import Path

from appctl import disk
from appctl.app import App
from appctl.process import CtlError, finish, how_it_ended, run

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
HOST_KEY = Path("/var/lib/systemd/credential.secret")


def encrypt(secrets: dict[str, str], directory: Path) -> None:
    """Encrypt secrets into a new directory that only root can enter.

    By the host's own key, from standard input: no file and no command line ever has them as they are. Not by a
    TPM, whose policy an update of the firmware would break.
    """
    directory.mkdir(mode=0o700)
    for name, secret in secrets.items():
        if not NAME.fullmatch(name):
            raise CtlError(f"gunicorn_fastapi_credentials: {name!r} is not a valid file name")
        path = directory / name
        try:
            run("systemd-creds", "encrypt", "--with-key=host", f"--name={name}", "-", str(path), stdin=secret)
        except CtlError as failure:
            raise CtlError(
                f"this host cannot encrypt the credential {name}, and a secret is never kept as it is: {failure}. Have "
                "systemd-creds work there, and deploy again"
            ) from None
        path.chmod(0o600)


def loaded_by(unit_text: str) -> list[tuple[str, Path]]:
    """Names and files of the credentials that a unit loads."""
    found = re.findall(r"^LoadCredentialEncrypted=([^:\n]+):(/.*)$", unit_text, re.MULTILINE)
    return [(name, Path(path)) for name, path in found]


def key(files: list[Path]) -> str:
    """Differs as soon as one of the files or the host's key was replaced. Raises OSError when one is missing."""
    marks = []
    for path in files:
        status = path.stat()
        marks.append(f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}")
    try:
        status = HOST_KEY.stat()
        marks.append(f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}")
    except FileNotFoundError:
        marks.append("no host key")
    return " ".join(marks)


def undecryptable(wanted: list[tuple[str, Path]]) -> str:
    """Which of a unit's credentials cannot be decrypted and why, in words. Empty when all can."""
    for name, path in wanted:
        status, _, errors = finish(("systemd-creds", "decrypt", f"--name={name}", str(path), "-"), 30)
        if status:
            reason = errors.strip().rsplit("\n", 1)[-1] or how_it_ended(status)
            return f"the credential {name} cannot be decrypted: {reason}"
    return ""


def unit_of(app: App, release: str) -> str:
    """The text of a release's service."""
    return disk.read_bounded(app.release(release) / "systemd" / app.service, 1024 * 1024).decode(errors="replace")
