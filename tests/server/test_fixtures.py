"""`vserver import`: all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from argon2 import PasswordHasher

from vantage6.common.errors import InvalidArgument, NotFound
from vantage6.server.config import ServerConfig
from vantage6.server.domain.fixtures import Fixtures, import_fixtures
from vantage6.server.domain.secrets import Passwords
from vantage6.server.startup import prepare
from vantage6.server.store.sql import Database


@pytest.mark.parametrize(
    ("fixtures", "failure"),
    [
        ({"organizations": [{"name": "East"}], "collaborations": [{"name": "c", "participants": ["No"]}]}, NotFound),
        (
            {
                "organizations": [
                    {"name": "East", "users": [
                        {"username": "a", "email": "a@b.example", "password": "a long passphrase 7", "roles": "no"}
                    ]},
                ]
            },
            NotFound,
        ),
        ({"organizations": [{"name": "East"}, {"name": "West", "public_key": "no key"}]}, InvalidArgument),
    ],
)  # fmt: skip
async def test_nothing_is_left_of_an_import_that_fails(
    tmp_path: Path, fixtures: dict[str, object], failure: type[Exception]
) -> None:
    config = ServerConfig(data_dir=tmp_path, root_password_file=tmp_path / "password")
    database, passwords = (
        Database(config.database_url),
        Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)),
    )
    await prepare(config, database, passwords)
    with pytest.raises(failure):
        await import_fixtures(database, passwords, Fixtures.model_validate(fixtures))
    async with database.read() as store:
        assert await store.parties.organization_by_name("East") is None
    passwords.close()
    await database.close()
