"""The application is found where the fastapi command finds it, and nothing of the source is executed."""

from pathlib import Path

import pytest
from gunicorn_fastapi_controller.discover import discover
from gunicorn_fastapi_controller.problem import InputError

APP = "from fastapi import FastAPI\napp = FastAPI()\n"


def source(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"main.py": APP}, "main:app"),
        ({"app/main.py": APP, "app/__init__.py": ""}, "app.main:app"),
        ({"api.py": "import fastapi\napi = fastapi.FastAPI(title='x')\n"}, "api:api"),
        ({"main.py": "from fastapi import FastAPI as F\nserver: F = F()\n"}, "main:server"),
        ({"main.py": "from fastapi import FastAPI\ninner = FastAPI()\napp = FastAPI()\n"}, "main:app"),
        ({"main.py": "from fastapi import FastAPI\nweb = FastAPI()\napp = socketio.ASGIApp(s, web)\n"}, "main:app"),
        ({"main.py": "try:\n    from fastapi import FastAPI\n    app = FastAPI()\nexcept E:\n    pass\n"}, "main:app"),
        ({"main.py": "from shop import create\napp = create()\n"}, "main:app"),
        ({"main.py": "from shop.server import app\n"}, "main:app"),
        ({"main.py": "async def app(scope, receive, send): ...\n"}, "main:app"),
        ({"main.py": "import uvicorn\nfrom app.main import app\nuvicorn.run(app)\n", "app/main.py": APP}, "main:app"),
        ({"app.py": "import typer\napp = typer.Typer()\n", "app/main.py": APP}, "app.main:app"),
        ({"main.py": "from fastapi import FastAPI\ndef create_app():\n    return FastAPI()\n"}, "main:create_app()"),
        ({"main.py": "x = 1\n", "app/api.py": APP}, "app.api:app"),
        ({"main.py": APP, "pyproject.toml": "[tool.fastapi]\nentrypoint = 'shop.web:server'\n"}, "shop.web:server"),
        ({"main.py": APP, "pyproject.toml": "[tool.fastapi]\nentrypoint = 'shop.web:make()'\n"}, "shop.web:make()"),
        ({"main.py": APP, "pyproject.toml": "broken ="}, "main:app"),
        ({"shop/__init__.py": "", "shop/main.py": APP, "shop/app.py": "x = 1"}, "shop.main:app"),
        ({"src/__init__.py": APP, "src/books/__init__.py": ""}, "src:app"),
        ({"main.py": "x = 1", "shop/__init__.py": "", "shop/app.py": "def create_app(): ..."}, "shop.app:create_app()"),
        ({"shop/__init__.py": "", "shop/app.py": APP, "tests/__init__.py": "", "tests/app.py": APP}, "shop.app:app"),
        ({"shop/__init__.py": "", "shop/db.py": "", "shop/main.py": f"from shop import db\n{APP}"}, "shop.main:app"),
        ({"a/__init__.py": "", "a/app.py": "app = make()\n", "web/__init__.py": "", "web/api.py": APP}, "web.api:app"),
    ],
)  # fmt: skip
def test_an_application_is_found(files: dict[str, str], found: str, tmp_path: Path) -> None:
    module, where = discover(source(tmp_path, files))
    assert module == found
    assert where


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, r"no application was found: none of main.py, .* is there and"),
        ({"main.py": "x = 1\n"}, "no application was found: main.py has none and"),
        (
            {"main.py": "x = 1\n\ndef app(: broken"},
            r"found: Python 3\..* of the controller cannot read main.py, line 3: inv",
        ),
        (
            {"main.py": "x = 1\n", "app.py": "x = (\n"},
            r"main.py has none; Python .* cannot read app.py, line 1: '\(' was",
        ),
        ({"main.py": "x = '\0'\n"}, r"cannot read main.py.*null byte"),
        ({"main.py": "def create_app(settings): ...\n"}, "no application was found"),
        ({"main.py": 'app = "text"\n'}, "no application was found"),
        (
            {"one/__init__.py": APP, "two/__init__.py": APP},
            r"one:app \(one/__init__.py, line 2\), two:app \(.* Name one",
        ),
        (
            {"one/main.py": APP, "two/shop/__init__.py": "", "two/shop/main.py": APP, "three/x.py": ""},
            r"names none\. There is one in one, two: set gunicorn_fastapi_app_path\. Name it",
        ),
        # What is imported from within the package: its directory is the application's.
        (
            {"api/__init__.py": "", "api/db.py": "", "api/main.py": f"from db import x\n{APP}"},
            "There is one in api: set",
        ),
        ({"main.py": APP, "api.py": APP}, r"main:app \(main.py, line 2\), api:app \(api.py, line 2\). Name one"),
        (
            {"main.py": "from fastapi import FastAPI\none = FastAPI()\ntwo = FastAPI()\n"},
            r"main:one \(line 2\), main:two \(line 3\). Name one",
        ),
        ({"pyproject.toml": "[tool.fastapi]\nentrypoint = 'main.py'\n"}, "entrypoint of .* not of the form"),
    ],
)
def test_none_or_several_are_told(files: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"gunicorn_fastapi_app_module: .*{says}"):
        discover(source(tmp_path, files))


@pytest.mark.parametrize("content", ["\ufeff".encode() + APP.encode(), b"# coding: latin-1\n# \xe9\n" + APP.encode()])
def test_the_encoding_is_the_files_own(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_bytes(content)
    assert discover(tmp_path)[0] == "main:app"


def test_nothing_is_executed(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    discover(source(tmp_path, {"main.py": f"open({str(ran)!r}, 'w')\n{APP}"}))
    assert not ran.exists()
