"""A pool is opened or it is said why not: what a person must mend is a setting, what passes is tried again."""

from __future__ import annotations

import time

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.database import settings_for
from support.link import link_to

from fleet_core.errors import BadConfig, Retryable
from fleet_server.store import pool as store_pool
from fleet_server.store.pool import open_pool

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("lets_in", [0, 1])
async def test_a_database_that_starts_up_while_a_process_does_is_away(
    fresh_database: str, lets_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_pool, "OPEN_TIMEOUT_S", 0.5)
    async with link_to(fresh_database) as link:
        link.lets_in = lets_in
        with pytest.raises(Retryable, match="no connection to PostgreSQL at"):
            await open_pool(settings_for(link.dsn), "web", size=1)


async def test_a_database_that_was_never_migrated_or_a_user_without_rights_is_a_setting(fresh_database: str) -> None:
    """Said at once: a pool would try the role for twenty seconds."""
    with psycopg.connect(fresh_database, autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS outsider")
        conn.execute("CREATE ROLE outsider LOGIN PASSWORD 'secret'")
    outsider = make_conninfo(fresh_database, user="outsider", password="secret")
    began_s = time.monotonic()
    try:
        with pytest.raises(BadConfig, match="the role forestall_web"):
            await open_pool(settings_for(outsider), "web", size=1)
        with pytest.raises(BadConfig, match="the role forestall_nobody"):
            await open_pool(settings_for(fresh_database), "nobody", size=1)
    finally:
        with psycopg.connect(fresh_database, autocommit=True) as conn:
            conn.execute("DROP ROLE outsider")
    assert time.monotonic() - began_s < 10


async def test_what_is_no_connection_string_is_a_setting() -> None:
    with pytest.raises(BadConfig, match="is not a PostgreSQL connection string"):
        await open_pool(settings_for("somewhere"), "web", size=1)


async def test_a_link_that_falls_silent_is_noticed_unless_the_connection_string_says_otherwise(
    fresh_database: str,
) -> None:
    for dsn, idle_s in ((fresh_database, "10"), (make_conninfo(fresh_database, keepalives_idle=77), "77")):
        pool = await open_pool(settings_for(dsn), "web", size=1)
        async with pool.connection() as conn:
            told = conn.info.get_parameters()
        await pool.close()
        assert (told["keepalives_idle"], told["tcp_user_timeout"]) == (idle_s, "20000")
