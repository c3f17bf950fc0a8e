"""An S3-compatible server to test against, in a process of its own: moto's, installed by `make s3`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import missing

FOLDER = Path(__file__).resolve().parents[2] / "build" / "s3"
BUCKET = "payloads"


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address; skips where it is not installed."""
    if not (FOLDER / "moto").is_dir():
        missing("s3", "run: make s3")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    environment = os.environ | {"PYTHONPATH": str(FOLDER), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            for line in process.stderr:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield found.group()
                    return
            pytest.fail("moto.server did not start")
        finally:
            process.terminate()


@contextmanager
def bucket(endpoint: str) -> Iterator[str]:
    """The URL of an empty bucket, and the environment to reach it with."""
    for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{BUCKET}")):
        with urllib.request.urlopen(urllib.request.Request(endpoint + path, method=method), timeout=30):
            pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT", endpoint)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        yield f"s3://{BUCKET}"
