"""pylock.toml, as one host reads it."""

from pathlib import Path

import pytest
from gunicorn_fastapi_controller import pylock
from gunicorn_fastapi_controller.problem import InputError
from gunicorn_fastapi_controller.server import Host

ENVIRONMENT = Host("3.13.5", "x86_64").environment()


def locked(tmp_path: Path, text: str, extras: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> list[str]:
    path = tmp_path / "pylock.toml"
    path.write_text('lock-version = "1.0"\n' + text)
    return [f"{e.name}=={e.version}" for e in pylock.read(path, ENVIRONMENT, extras, groups).entries]


def package(name: str, more: str = "") -> str:
    digest = "A0" * 32
    wheels = f'wheels = [{{name = "x.whl", hashes = {{sha256 = "{digest}", md5 = "00"}}}}]'
    return (
        f'[[packages]]\nname = "{name}"\nversion = "1"\n{more}\n{"" if "wheels" in more or "vcs" in more else wheels}\n'
    )


def test_what_this_host_needs_is_read(tmp_path: Path) -> None:
    text = package("six") + package("colorama", """marker = "sys_platform == 'win32'" """)
    text += package("pytest", """marker = "'dev' in dependency_groups" """)
    text += package("asyncpg", """marker = "'pg' in extras" """)
    assert locked(tmp_path, text) == ["six==1"]
    assert locked(tmp_path, text, ("pg",), ("dev",)) == ["six==1", "pytest==1", "asyncpg==1"]
    (entry,) = pylock.read(tmp_path / "pylock.toml", ENVIRONMENT, (), ()).entries
    assert entry.hashes == ("sha256:" + "a0" * 32,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            package("six", 'vcs = {type = "git", url = "https://example.com", commit-id = "1"}'),
            "six comes from a repository",
        ),
        (package("six", "wheels = []"), "six has no wheel with a hash"),
        (package("six", """marker = "nonsense" """), "the condition of six .* is not understood"),
        ("[[packages]\n", "cannot be read: .*uv export --format requirements-txt"),
        ("[[packages]]\nname = 5\n", "5 has no wheel"),
    ],
)
def test_what_cannot_be_installed_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"^gunicorn_fastapi_requirements: .*{reason}"):
        locked(tmp_path, text)


def test_another_version_of_the_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text('lock-version = "2.0"\n')
    with pytest.raises(InputError, match="a lock-version that is not 1"):
        pylock.read(path, ENVIRONMENT, (), ())
