"""The configuration file, the command line and the first start."""

from __future__ import annotations

from pathlib import Path

import pytest
from argon2 import PasswordHasher
from click.testing import CliRunner

from vantage6.common.commands import Code
from vantage6.common.settings import ConfigError
from vantage6.server.cli import main
from vantage6.server.config import ServerConfig, load_config
from vantage6.server.domain.secrets import Passwords
from vantage6.server.startup import prepare
from vantage6.server.store.sql import Database


def write(folder: Path, text: str) -> Path:
    path = folder / "server.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "application:\n  name: demo\n  data_dir: state\n"))
    assert config.data_dir == tmp_path / "state"
    assert config.database_url == f"sqlite+aiosqlite:///{tmp_path}/state/server.db"
    assert config.blob_location == str(tmp_path / "state" / "blobs")
    assert config.secret_file == tmp_path / "state" / "token.secret"


@pytest.mark.attack("X13")
@pytest.mark.parametrize(
    "text",
    [
        "application:\n  nmae: demo\n",
        "application:\n  address: everywhere\n",
        "application:\n  tokens: {access_minutes: 0}\n",
        "application: []\n",
        "name: demo\n",
        "application: !!python/object/apply:os.system ['true']\n",
        "application: {name: [\n",
        "a: &a [x, x]\nb: &b [*a, *a]\napplication: {name: *b}\n",
        "# " + "x" * 1024 * 1024,
    ],
)
def test_what_is_no_configuration_is_refused_with_a_reason(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert "server.yaml" in str(caught.value)


def test_a_refusal_does_not_show_the_values(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "application:\n  uri: [postgresql+asyncpg://user:hunter2@db/v6]\n"))
    assert "application.uri" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_command_line_says_what_is_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, "application:\n  nmae: demo\n")
    done = CliRunner().invoke(main, ["start", "--config", str(path)])
    assert done.exit_code == Code.CONFIG
    assert "application.nmae" in done.output
    assert "contract 1.0" in CliRunner().invoke(main, ["version"]).output


@pytest.mark.row("M05")
async def test_the_first_start_prints_the_password_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ServerConfig(data_dir=tmp_path)
    database = Database(config.database_url)
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    await prepare(config, database, passwords)
    assert "root" in capsys.readouterr().out
    await prepare(config, database, passwords)
    assert capsys.readouterr().out == ""
    passwords.close()
    await database.close()


@pytest.mark.row("M05")
async def test_the_password_can_go_to_a_file_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "root.password"
    config = ServerConfig(data_dir=tmp_path, root_password_file=file)
    database = Database(config.database_url)
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    await prepare(config, database, passwords)
    assert capsys.readouterr().out == ""
    assert file.stat().st_mode & 0o777 == 0o600
    async with database.read() as store:
        root = await store.accounts.user_by_name("root")
    assert root is not None
    assert await passwords.check(file.read_text().strip(), root.password_hash)
    passwords.close()
    await database.close()
