"""A container's life without a container: files named by the environment in, a file and an exit code out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vantage6.common.serialization import deserialize, serialize

PACKAGE = """
import os
from vantage6.algorithm import AlgorithmClient, AlgorithmError, algorithm_client, connection, data, remote

@data(1)
def total(frame, column: str):
    return int(frame[column].sum())

@remote
def greet(name: str = "you"):
    return {"hello": name}

@remote
def secretive():
    raise ValueError("patient 4711 has it")

@remote
def told():
    raise AlgorithmError("fewer than five records")

@remote
def unserializable():
    return object()

@remote
def zoo(name: str, *, times: int = 1):
    return list(os.sys.modules)

@connection(1)
def place(database, name: str):
    return [database.label, *os.sys.modules]

@algorithm_client
def central(client: AlgorithmClient, name: str):
    return [isinstance(client, AlgorithmClient), *os.sys.modules]

@remote
def _private():
    return 1

def undeclared():
    return os.environ

class Thing:
    @remote
    def method(self): ...
"""


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs the entry point on an input and returns (exit code, output, standard error)."""
    (tmp_path / "my_package.py").write_text(PACKAGE)
    (tmp_path / "data.csv").write_text("age,name\n30,a\n12,b\n")
    output = tmp_path / "output"
    output.touch()

    def go(data: bytes, **changes: str) -> tuple[int, bytes, str]:
        (tmp_path / "input").write_bytes(data)
        environment = {
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "INPUT_FILE": str(tmp_path / "input"),
            "OUTPUT_FILE": str(output),
            "DATABASE_URI": str(tmp_path / "data.csv"),
            **changes,
        }
        command = [sys.executable, "-m", "vantage6.algorithm.entrypoint", "my_package"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, output.read_bytes(), done.stderr

    return go


def call(method: str, *args: object, **kwargs: object) -> bytes:
    return serialize({"method": method, "args": list(args), "kwargs": kwargs})


@pytest.mark.row("M07")
def test_frame_in_json_out(run) -> None:  # type: ignore[no-untyped-def]
    code, output, error = run(b'json.{"method":"total","args":["age"]}')
    assert (code, output, error) == (0, b"json.42", "")


def test_the_output_file_is_written_in_place(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    before = (tmp_path / "output").stat().st_ino
    (tmp_path / "output").write_bytes(b"x" * 1000)
    code, output, _ = run(call("greet", "me"))
    assert code == 0
    assert deserialize(output) == {"hello": "me"}
    assert (tmp_path / "output").stat().st_ino == before


@pytest.mark.attack
@pytest.mark.parametrize("method", ["_private", "undeclared", "os", "Thing", "__import__", "remote", "data", "", "a.b"])
def test_only_declared_functions_can_be_called(run, method: str) -> None:  # type: ignore[no-untyped-def]
    code, output, error = run(call(method))
    assert (code, output) == (2, b"")
    assert "central, greet, place, secretive, told, total, unserializable, zoo" in error


@pytest.mark.parametrize("data", [b"", b"json.[]", b"json.{", b"\x80\x04pickle", b'json.{"method":"greet","args":"a"}'])
def test_input_that_is_none_ends_with_two(run, data: bytes) -> None:  # type: ignore[no-untyped-def]
    code, output, error = run(data)
    assert (code, output) == (2, b"")
    assert error.startswith("error > input: ")


def test_wrong_arguments_end_with_two(run) -> None:  # type: ignore[no-untyped-def]
    code, _, error = run(call("greet", 5))
    assert code == 2
    assert "argument 'name' must be str" in error


@pytest.mark.attack
def test_an_exception_does_not_carry_values_out(run) -> None:  # type: ignore[no-untyped-def]
    code, output, error = run(call("secretive"))
    assert (code, output) == (1, b"")
    assert "4711" not in error
    assert error == "error > algorithm: ValueError at my_package.py:15 in secretive (its text stays at the site)\n"


def test_a_site_may_let_the_texts_of_exceptions_out(run) -> None:  # type: ignore[no-untyped-def]
    _, _, error = run(call("secretive"), SHARE_ERRORS="1")
    assert error == "error > algorithm: ValueError at my_package.py:15 in secretive: patient 4711 has it\n"


def test_an_authors_own_error_is_told(run) -> None:  # type: ignore[no-untyped-def]
    code, _, error = run(call("told"))
    assert code == 1
    assert error == "error > algorithm: fewer than five records\n"


def test_what_no_format_carries_is_the_algorithms_fault(run) -> None:  # type: ignore[no-untyped-def]
    code, output, error = run(call("unserializable"))
    assert (code, output) == (1, b"")
    assert "SerializationError" in error


def test_a_missing_database_is_told(run) -> None:  # type: ignore[no-untyped-def]
    code, _, error = run(call("total", "age"), DATABASE_URI="")
    assert code == 2
    assert "DATABASE_URI" in error


@pytest.mark.parametrize("method", ["zoo", "place", "central"])
def test_nothing_heavy_is_loaded_before_it_is_needed(run, tmp_path: Path, method: str) -> None:  # type: ignore[no-untyped-def]
    """All this is on the way to every first line of an algorithm."""
    (tmp_path / "token").write_text("token")
    code, output, _ = run(call(method, "me"), TOKEN_FILE=str(tmp_path / "token"), PROXY_ADDRESS="unix:/nowhere")
    assert code == 0
    loaded = set(deserialize(output))  # type: ignore[call-overload]
    slow = {"grpc", "google.protobuf", "pandas", "numpy", "pydantic", "cryptography"}
    slow |= {"inspect", "dataclasses", "pathlib", "traceback", "urllib.parse", "logging"}
    assert not slow & loaded
