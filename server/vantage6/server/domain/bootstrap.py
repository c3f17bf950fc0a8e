"""What a database must hold before the first call: the default roles, and root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.server.domain.checks import check_email
from vantage6.server.domain.permissions import DEFAULT_ROLES, ROOT, table_rules
from vantage6.server.domain.roles import replace_rules, rule_rows
from vantage6.server.domain.secrets import Passwords, check_password_strength, new_secret
from vantage6.server.store.tables import Role, User

if TYPE_CHECKING:
    from vantage6.server.store.sql import Database, Store


async def bootstrap(
    database: Database, passwords: Passwords, *, root_email: str = "root@localhost", root_password: str | None = None
) -> str | None:
    """Returns the password of root if it was made now: the only chance to learn it (M05, CVE-2026-54445)."""
    async with database.write() as store:
        # Replicas may start together; the second finds what the first has made.
        await store.lock_name("bootstrap")
        roles = await _default_roles(store)
        if await store.accounts.count_users():
            return None
        password = root_password or new_secret()
        check_password_strength(password, ROOT)
        root = User(
            username=ROOT,
            email=check_email(root_email),
            password_hash=await passwords.hash(password),
            roles=[roles[ROOT]],
        )
        await store.accounts.add_user(root)
    return None if root_password else password


async def _default_roles(store: Store) -> dict[str, Role]:
    """Brings the rows into step with the table in permissions.py."""
    present = await store.accounts.default_roles()
    for name, (description, grants) in DEFAULT_ROLES.items():
        rules = table_rules(grants)
        row = present.get(name)
        if row is None:
            present[name] = await store.accounts.add_role(
                Role(name=name, description=description, rules=rule_rows(rules))
            )
            continue
        row.description = description
        replace_rules(row, rules)
    await store.flush()
    return present
