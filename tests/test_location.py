"""What gunicorn_fastapi_app_source names, and that none of its secrets is in a text."""

import pytest
from gunicorn_fastapi_controller.location import app_path, location, without_secrets
from gunicorn_fastapi_controller.problem import InputError


@pytest.mark.parametrize(
    ("text", "kind", "url", "ref"),
    [
        ("/home/me/shop", "directory", "/home/me/shop", ""),
        ("~/me@work", "directory", "~/me@work", ""),
        ("shop-1.0.tar.gz", "archive", "shop-1.0.tar.gz", ""),
        ("shop.ZIP", "archive", "shop.ZIP", ""),
        ("git+https://example.com/me/shop.git@v1.2", "git", "https://example.com/me/shop.git", "v1.2"),
        ("git+https://example.com:8443/shop.git@feature/a", "git", "https://example.com:8443/shop.git", "feature/a"),
        ("git+https://example.com/shop", "git", "https://example.com/shop", ""),
        ("git+ssh://git@example.com/shop.git@main", "git", "ssh://git@example.com/shop.git", "main"),
        ("git+ssh://git@[::1]:22/shop.git", "git", "ssh://git@[::1]:22/shop.git", ""),
        ("git+file:///srv/shop.git@main", "git", "file:///srv/shop.git", "main"),
        ("file:///srv/shop@work.git@main", "git", "file:///srv/shop@work.git", "main"),
    ],
)
def test_a_source(text: str, kind: str, url: str, ref: str) -> None:
    found = location(text)
    assert (found.kind, found.url, found.ref) == (kind, url, ref)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a path"),
        (" shop", "is not a path"),
        ("git@example.com:me/shop.git", r"Write it as git\+ssh://git@example.com/me/shop.git"),
        ("https://example.com/shop.git", "is no address that is fetched"),
        ("git+http://example.com/shop.git", "is no address that is fetched"),
        ("git+https://example.com", "names no repository"),
        ("git+https:///shop.git", "names no repository"),
        ("git+file://host/shop.git", "names no repository"),
        ("git+https://example.com/shop.git@", "no branch, tag or commit"),
        ("git+https://example.com/shop.git@--upload-pack=x", "no branch, tag or commit"),
        ("git+https://example.com/shop.git@a..b", "no branch, tag or commit"),
        ("git+https://example.com/shop.git#subdirectory=api", "gunicorn_fastapi_app_path"),
    ],
)
def test_what_names_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"gunicorn_fastapi_app_source: .*{says}"):
        location(text)


SECRETS = [
    "git+https://me:s3cr3t@example.com/shop.git@main",
    "git+https://s3cr3t@example.com/shop.git@main",
    "git+https://s3cr3t@example.com/shop.git?a=b",
    "git+ssh://git:s3cr3t@example.com/shop.git@main",
    "git+https://s3cr3t@example.com/shop.git@a..b",
    "https://s3cr3t@example.com/shop.git",
    " git+https://s3cr3t@example.com/shop.git",
    "git+https://example.com/shop.git?token=s3cr3t",
    "GIT+HTTPS://s3cr3t@example.com/shop.git",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_of_an_address_is_in_no_text(text: str) -> None:
    try:
        found = location(text)
    except InputError as error:
        told = str(error)
    else:
        assert "s3cr3t" in (found.user, found.password)
        told = f"{found} {found.url}"
    assert "s3cr3t" not in told
    if "token=" not in text:
        assert "s3cr3t" not in without_secrets(text)
    assert without_secrets("git+ssh://git@example.com/a") == "git+ssh://git@example.com/a"


def test_a_password_is_decoded() -> None:
    assert location("git+https://me:a%40b%2Fc@example.com/shop.git").password == "a@b/c"


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../b", " a", "~/x"])
def test_a_path_out_of_the_source_is_refused(path: str) -> None:
    assert "is not a path below the source" in app_path({"gunicorn_fastapi_app_path": path})
