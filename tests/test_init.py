"""What tools/init writes into a stranger's project: only what it needs, with nothing of it executed or overwritten."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import project
import pytest
import variables
import yaml
from gunicorn_fastapi_controller import checks, inputs

ROOT = Path(__file__).parent.parent
FILES = {
    "pyproject.toml": "[project]\nname = 'Corner-Shop'\nrequires-python = '>=3.12'\ndependencies = ['fastapi']\n",
    "shop/main.py": "",
    "backend/requirements.in": "fastapi\ncelery[redis]>=5\n",
    "backend/main.py": (
        "import os\nfrom fastapi import FastAPI\nfrom settings import Settings\napp = FastAPI()\n"
        "open('RAN', 'w')\nHOME = os.environ['HOME']\nlevel = os.getenv('LEVEL', 'x')\n"
        "@app.get('/api/health')\ndef health(): ...\n@app.get('/health-insurance')\ndef other(): ...\n"
    ),
    "backend/settings.py": (
        "from typing import ClassVar\nfrom pydantic_settings import BaseSettings\nclass Settings(BaseSettings):\n"
        "    model_config = dict(env_prefix='shop_')\n    database_url: str\n    name: str = 'x'\n"
        "    jwt_key: str = 'changeme'\n    kind: ClassVar[str]\n"
    ),
    "backend/tests/test_main.py": "import os\nos.environ['OF_A_TEST']\n",
    "backend/alembic.ini": "",
    "frontend/package.json": '{"scripts": {"build": "vite build"}}',
    ".env.example": "SMTP_PASSWORD=changeme\nSMTP_HOST=localhost\n",
    ".env": "SMTP_PASSWORD=s3cr3t\n",
}
WRITTEN = ["deploy/inventory.yml", "deploy/group_vars/fastapi_hosts/main.yml"]
WRITTEN += ["deploy/group_vars/fastapi_hosts/secrets.yml", ".github/workflows/deploy.yml"]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "corner" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corner" / name).write_text(text.replace("RAN", str(tmp_path / "ran")))
    return tmp_path / "corner"


def init(top: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/init"), str(top), *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def given(top: Path) -> dict[str, Any]:
    """The variables that it has written."""
    texts = [(top / name).read_text() for name in WRITTEN[1:3]]
    return {name: value for text in texts for name, value in yaml.safe_load(text).items()}


def test_what_it_writes_is_what_the_project_needs(top: Path) -> None:
    said = init(top, "--host", "shop.example.com", "--user", "me")
    assert "The application is main:app, found in main.py, line 4" in said
    assert given(top) == {
        "gunicorn_fastapi_name": "corner",
        "gunicorn_fastapi_app_source": "{{ inventory_dir }}/..",
        "gunicorn_fastapi_app_path": "backend",
        "gunicorn_fastapi_health_path": "/api/health",
        "gunicorn_fastapi_environment": {"LEVEL": None, "SMTP_HOST": None},
        "gunicorn_fastapi_secret_environment": {"SHOP_DATABASE_URL": None, "SHOP_JWT_KEY": None, "SMTP_PASSWORD": None},
    }
    inventory = yaml.safe_load((top / WRITTEN[0]).read_text())
    assert inventory["fastapi_hosts"]["hosts"] == {"shop.example.com": {"ansible_user": "me", "ansible_become": True}}
    assert yaml.safe_load((top / WRITTEN[3]).read_text())["jobs"]["deploy"]["steps"]
    for unknown in (
        "/api/health is the whole path",
        "have celery",
        "alembic.ini",
        "frontend/package.json",
        "git does not ignore it",
    ):
        assert unknown in said
    assert not (top.parent / "ran").exists()
    written = "".join((top / name).read_text() for name in WRITTEN)
    assert not any(word in written + said for word in ("s3cr3t", "changeme", "OF_A_TEST"))


def test_the_role_takes_what_it_writes(top: Path) -> None:
    init(top)
    options = variables.options()
    values = {name: option["default"] for name, option in options.items()} | {"gunicorn_fastapi_log_quiet": ["/up"]}
    converted, wrong = inputs.inputs_and_problems(values | given(top), options)
    assert wrong + checks.problems(converted) == []


def test_what_is_there_is_left_alone(top: Path) -> None:
    init(top)
    assert init(top).count(": is there\n") == 4
    (top / WRITTEN[1]).write_text("mine: true\n")
    said = init(top)
    assert f"{WRITTEN[1]}: is there, and was left alone" in said
    assert (top / WRITTEN[1]).read_text() == "mine: true\n"


def test_an_application_in_a_package_is_imported_from_above(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/main.py").write_text("from fastapi import FastAPI\nfrom shop import db\napp = FastAPI()\n")
    found = project.read(tmp_path)
    assert (found.path, found.module) == ("", "shop.main:app")


@pytest.mark.parametrize(
    ("name", "text", "old"),
    [
        ("requirements.txt", "uvicorn[standard]==0.20.0\nhttptools==0.6.4\ngunicorn>=20\n", ["uvicorn"]),
        ("poetry.lock", '[[package]]\nname = "httptools"\nversion = "0.6.1"\n', ["httptools"]),
        ("uv.lock", '[[package]]\nname = "uvicorn"\nversion = "0.30.0"\nsource = { x = "0.1" }\n', []),
        ("requirements.in", "uvicorn\n", []),
    ],
)
def test_a_server_that_would_be_refused_is_upgraded(tmp_path: Path, name: str, text: str, old: list[str]) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "main.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    init(tmp_path)
    assert (yaml.safe_load((tmp_path / WRITTEN[1]).read_text()).get("gunicorn_fastapi_upgrade") or []) == old


@pytest.mark.parametrize(
    "route", ["@router.get(path='/ping')", "app.include_router(r, prefix='/ping')\n@router.get('')"]
)
def test_a_health_check_is_found_by_its_path_or_its_router_s(tmp_path: Path, route: str) -> None:
    (tmp_path / "main.py").write_text(f"from fastapi import FastAPI\napp = FastAPI()\n{route}\ndef up(): ...\n")
    assert project.read(tmp_path).health == "/ping"


def test_what_python_warns_of_in_the_project_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("from fastapi import FastAPI\napp = FastAPI()\nx = '\\d'\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/init"), str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_project_of_poetry_is_described_by_poetry(tmp_path: Path) -> None:
    poetry = "[tool.poetry]\nname = 'till'\n[tool.poetry.dependencies]\npython = '^3.12'\nfastapi = '*'\n"
    (tmp_path / "pyproject.toml").write_text(poetry)
    (tmp_path / "main.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    found = project.read(tmp_path)
    assert found.name == "till"
    assert any("fits ^3.12" in text for text in found.unknown)


def test_several_applications_are_left_to_whoever_knows(tmp_path: Path) -> None:
    for name in ("main.py", "api.py"):
        (tmp_path / name).write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    found = project.read(tmp_path)
    assert found.module == ""
    assert any("main:app" in text and "api:app" in text for text in found.unknown)


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("Corner-Shop", "corner_shop"),
        ("2shop", "app_2shop"),
        ("backend", "backend"),
        ("nginx.d", "nginx_d"),
        ("cron", "cron_app"),
    ],
)
def test_a_name_that_units_can_have(directory: str, name: str, tmp_path: Path) -> None:
    (tmp_path / directory).mkdir()
    assert project.Project(tmp_path / directory).name == name
