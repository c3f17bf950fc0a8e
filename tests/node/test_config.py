"""The configuration file: what it may hold, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from vantage6.common.settings import ConfigError
from vantage6.node.admin.listing import files
from vantage6.node.config import API_KEY_VARIABLE, load_config
from vantage6.node.databases import without_password
from vantage6.node.doctor import check_databases

GOOD = """
application:
  name: north
  server_url: https://server.example:443
  ca_file: ca.pem
  api_key_file: key.txt
  private_key: private_key.pem
  databases:
    default: {uri: patients.csv, type: csv}
    registry: {uri: "https://data.example/x", type: other}
  policy: {allowed_images: ["example/.*"], allowed_organizations: [2, "12"]}
  runtime: sandbox
  runtime_options: {image_folder: images}
  limits: {runs: 2, seconds: 60}
  directories: {data: data, task: tasks}
  trust: pinned
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "node.yaml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.private_key_file == tmp_path / "private_key.pem"
    assert config.databases["default"].uri == str(tmp_path / "patients.csv")
    assert config.databases["registry"].uri == "https://data.example/x"
    assert (config.data_dir, config.task_dir) == (tmp_path / "data", tmp_path / "tasks")
    assert config.runtime_options == {"image_folder": str(tmp_path / "images")}
    assert config.policy.allowed_organizations == [2, "12"]
    assert config.endpoint.target == "server.example:443"


def test_api_key_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.txt").write_text("secret\n")
    assert load_config(write(tmp_path, GOOD)).read_api_key() == "secret"
    plain = load_config(write(tmp_path, "application: {name: n, server_url: 'https://s'}"))
    with pytest.raises(ConfigError, match="api_key_file"):
        plain.read_api_key()
    monkeypatch.setenv(API_KEY_VARIABLE, "from-environment")
    assert plain.read_api_key() == "from-environment"


@pytest.mark.attack
@pytest.mark.row("M24")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("application: {name: n, server_ulr: 'https://s'}", "unknown key 'server_ulr'; did you mean 'server_url'"),
        ("application: {name: n}", "key 'server_url' is missing"),
        (
            "application: {name: n, server_url: 'https://s', policy: {allowed_image: []}}",
            "did you mean 'allowed_images'",
        ),
        ("application: {name: n, server_url: 's'}", "write it as https://host:port"),
        ("application: {name: '../n', server_url: 'https://s'}", "key 'name'"),
        ("application: {name: n, server_url: 'https://s', limits: {runs: 0}}", "limits.runs"),
        ("application: {name: n, server_url: 'https://s', policy: {allowed_images: ['(']}}", "no regular expression"),
        ("application: {name: n, server_url: 'https://s', databases: {'a b': {uri: x}}}", "label 'a b'"),
        ("application: {name: n, server_url: 'https://s', databases: {a-b: {uri: x}, a_b: {uri: x}}}", "two labels"),
        ("application: {}\nother: 1", "unknown key 'other'"),
        ("- 1", "application:"),
        ("a: [", "no valid YAML"),
        ("application: !!python/object/apply:os.system ['true']", "no valid YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]\napplication: {name: *b}", "aliases"),
        ("[" * 100_000, "no valid YAML"),
    ],
)
def test_unusable_file_says_what_and_where(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.attack
def test_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(ConfigError, match="larger than"):
        load_config(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.attack
def test_what_is_secret_is_not_shown_with_the_rest(tmp_path: Path) -> None:
    """A repr ends up in tracebacks and logs."""
    config = load_config(
        write(
            tmp_path,
            "application: {name: n, server_url: 'https://s', api_key: secret, proxy: 'http://u:secret@p:1',\n"
            "  databases: {d: {uri: 'postgresql://u:secret@h/db', type: sql}},\n"
            "  runtime_options: {registries: {r.example: {username: u, password_file: secret}}}}\n",
        )
    )
    assert "secret" not in f"{config!r} {config}"
    assert config.api_key == "secret"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://u:secret@h:1/d", "postgresql://u:***@h:1/d"),
        ("postgresql+x://u:sec@ret/x@h/d", "postgresql+x://u:***@h/d"),
        ("http://:secret@h", "http://:***@h"),
        ("https://h/?user=u&password=secret&x=1", "https://h/?user=u&password=***&x=1"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3D***"),
        ("postgresql://u@h:1/d", "postgresql://u@h:1/d"),
        ("/data/a:b@c.csv", "/data/a:b@c.csv"),
    ],
)
def test_passwords_of_databases_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, shown: str
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert without_password(uri) == shown
    path = write(tmp_path, f"application: {{server_url: 'https://s', databases: {{d: {{uri: '{uri}', type: other}}}}}}")
    for more in ((), ("--json",)):
        said = CliRunner().invoke(files, ["--config", str(path), *more])
        assert said.exit_code == 0, said.output
        assert shown in said.output
        assert "secret" not in said.output
    assert "secret" not in " ".join(f"{each.detail} {each.fix}" for each in check_databases(load_config(path)))
