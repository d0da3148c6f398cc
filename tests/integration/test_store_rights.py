"""What the role that renders pages may not do, whatever a mistake in the web process asks the database for."""

from __future__ import annotations

import psycopg
import pytest
from support.database import drop_database, new_database, settings_for

from fleet_server.store.pool import as_reader, open_pool, transaction

pytestmark = pytest.mark.integration

FORBIDDEN = (
    "SELECT FROM batch_key",
    "SELECT FROM samples",
    "SELECT FROM waveform",
    "SELECT FROM latest",
    "SELECT FROM quarantine",
    "SELECT FROM ledger_gap",
    "SELECT FROM app_user",
    "SELECT FROM web_session",
    "SELECT FROM public.procrastinate_jobs",
    "DELETE FROM public.procrastinate_jobs",
    "UPDATE asset SET name = ''",
    "UPDATE tenant SET observe_only = true",
    "INSERT INTO audit_entry (entry_id, at, actor, action, subject, body, canonical)"
    " VALUES (gen_random_uuid(), now(), 'system:worker', 'a', 's', '{}', '')",
)


async def test_the_web_role_can_neither_read_past_its_tenant_nor_write(postgres_dsn: str) -> None:
    dsn = new_database(postgres_dsn)
    pool = await open_pool(settings_for(dsn), "web", size=1)
    for statement in FORBIDDEN:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with transaction(pool) as conn:
                await as_reader(conn, None)
                await conn.execute(statement)
    await pool.close()
    drop_database(postgres_dsn, dsn)


async def test_every_table_with_a_tenant_has_row_level_security(postgres_dsn: str) -> None:
    dsn = new_database(postgres_dsn)
    pool = await open_pool(settings_for(dsn), "owner", size=1)
    async with transaction(pool) as conn:
        rows = await conn.execute(
            "SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE relnamespace = 'fleet'::regnamespace AND relkind IN ('r', 'p') AND attname = 'tenant_id'"
            " AND NOT attisdropped AND NOT relrowsecurity"
            " AND has_table_privilege('forestall_web', pg_class.oid, 'SELECT')"
        )
        assert await rows.fetchall() == []
    await pool.close()
    drop_database(postgres_dsn, dsn)
