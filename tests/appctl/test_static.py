"""Which static files the edge finds before, during and after a handover."""

import gzip
import json
from pathlib import Path

import pytest
from appctl import static
from appctl.process import CtlError
from ctl_host import Host

LONG = b"body { color: red }\n" * 100


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def release(host: Host, name: str, files: dict[str, bytes], wanted: object = None) -> None:
    """Give a release a source and its list."""
    for path, content in files.items():
        write(host.release(name) / "app" / path, content)
    listed = wanted or {"directories": {"/static": "static"}, "fallback": ""}
    write(host.release(name) / "etc/static.json", json.dumps(listed).encode())


def found(host: Host) -> dict[str, list[str]]:
    """What each link leads to."""
    public = static.public(host)
    links = [name for name in ("current", "next", "previous") if (public / name).is_symlink()]
    return {
        name: sorted(str(p.relative_to(public / name)) for p in (public / name).rglob("*") if p.is_file())
        for name in links
    }


def test_files_are_there_from_the_join_on_and_those_before_stay(host: Host) -> None:
    release(host, "aaa1", {"static/one.js": b"1"})
    release(host, "aab2", {"static/two.js": b"2"})
    host.serves("aaa1")
    static.offer(host, "aaa1")
    static.point(host)
    assert found(host) == {"current": ["files/static/one.js"]}
    static.publish(host, "aab2")
    assert found(host) == {"current": ["files/static/one.js"]}
    static.offer(host, "aab2")
    assert found(host) == {"current": ["files/static/one.js"], "next": ["files/static/two.js"]}
    host.serves("aab2")
    static.point(host)
    both = {"current": ["files/static/two.js"], "previous": ["files/static/one.js"]}
    assert found(host) == both
    static.point(host)
    assert found(host) == both
    host.serves("aaa1")  # a rollback
    static.offer(host, "aaa1")
    static.point(host)
    assert found(host) == {"current": ["files/static/one.js"], "previous": ["files/static/two.js"]}


def test_a_handover_that_fails_takes_its_files_back(host: Host) -> None:
    release(host, "aaa1", {"static/one.js": b"1"})
    release(host, "aab2", {"static/two.js": b"2"})
    host.serves("aaa1")
    static.offer(host, "aaa1")
    static.point(host)
    static.offer(host, "aab2")
    static.withdraw(host)
    static.point(host)
    assert found(host) == {"current": ["files/static/one.js"]}
    assert sorted(path.name for path in static.public(host).iterdir()) == ["aaa1", "current"]


def test_a_release_without_any_ends_those_of_the_others(host: Host) -> None:
    static.offer(host, "bbb3")
    host.serves("bbb3")
    static.point(host)
    assert not static.public(host).exists()
    release(host, "aaa1", {"static/one.js": b"1"})
    static.offer(host, "aaa1")
    host.serves("aaa1")
    static.point(host)
    static.offer(host, "bbb3")
    host.serves("bbb3")
    static.point(host)
    assert found(host) == {"previous": ["files/static/one.js"]}


def test_only_files_that_are_meant_are_published(host: Host, tmp_path: Path) -> None:
    files = {
        "static/a.css": LONG,
        "static/.env": b"x",
        "static/.git/config": b"x",
        "static/b/c.txt": b"short",
        "main.py": b"x",
    }
    release(host, "aaa1", files)
    (tmp_path / "secret").write_text("x")
    (host.release("aaa1") / "app/static/link").symlink_to(tmp_path / "secret")
    (host.release("aaa1") / "app/static/all").symlink_to(tmp_path)
    static.offer(host, "aaa1")
    assert found(host) == {"next": ["files/static/a.css", "files/static/a.css.gz", "files/static/b/c.txt"]}
    served = static.public(host) / "next/files/static"
    assert gzip.decompress((served / "a.css.gz").read_bytes()) == LONG
    assert (served / "a.css").stat().st_mode & 0o777 == 0o644
    assert served.stat().st_mode & 0o777 == 0o755


def test_what_a_build_has_compressed_is_kept(host: Host) -> None:
    release(host, "aaa1", {"static/a.css": LONG, "static/a.css.gz": b"better"})
    static.offer(host, "aaa1")
    assert (static.public(host) / "next/files/static/a.css.gz").read_bytes() == b"better"


def test_the_root_and_a_fallback(host: Host) -> None:
    wanted = {"directories": {"/": "dist", "/static": "static"}, "fallback": "dist/index.html"}
    release(host, "aaa1", {"dist/index.html": b"<p>", "dist/x.js": b"1", "static/y.js": b"2"}, wanted)
    static.offer(host, "aaa1")
    assert found(host) == {"next": ["fallback.html", "files/index.html", "files/static/y.js", "files/x.js"]}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"directories": {"/static": "nowhere"}}, "nowhere is no directory of the release"),
        ({"directories": {"/static": "main.py"}}, "main.py is no directory of the release"),
        ({"directories": {"/static": "link"}}, "leads out of the source or over a link"),
        ({"directories": {"/static": "link/x"}}, "leads out of the source or over a link"),
        ({"directories": {"/static": "../etc"}}, "leads out of the source or over a link"),
        ({"directories": {}, "fallback": "static"}, "static is no file of the source"),
        ({"directories": {}, "fallback": "nothing.html"}, "nothing.html is no file of the source"),
        ({"directories": {}, "unavailable": "no.html"}, "gunicorn_fastapi_unavailable_page: no.html is no file"),
    ],
)
def test_what_is_not_there_is_refused_and_leaves_nothing(host: Host, wanted: object, said: str) -> None:
    release(host, "aaa1", {"main.py": b"x", "static/x": b"x"}, wanted)
    (host.release("aaa1") / "app/link").symlink_to("/etc")
    with pytest.raises(CtlError, match=said):
        static.publish(host, "aaa1")
    assert list(static.public(host).iterdir()) == []


def test_equal_files_have_equal_times_and_others_have_not(host: Host) -> None:
    """Caddy's ETag is of time and size."""
    release(host, "aaa1", {"static/a": b"1", "static/b": b"2", "static/c": b"3"})
    release(host, "aab2", {"static/a": b"1", "static/b": b"3", "static/c": b"3"})
    for name in ("aaa1", "aab2"):
        static.publish(host, name)

    def marks(name: str) -> list[float]:
        return [(static.public(host) / name / "files/static" / file).stat().st_mtime for file in "abc"]

    one, two = marks("aaa1"), marks("aab2")
    assert one[0] == two[0]
    assert one[1] != two[1]
    assert one[2] == two[2] == two[1]
    assert min(one + two) > 1
