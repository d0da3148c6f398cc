-- Statements of fleet_server/store: what a connection may see, elections, partitions of the telemetry, the embedded server.

-- name: as_reader
SELECT set_config('forestall.tenant', %(tenant)s, true), set_config('forestall.all_tenants', %(all_tenants)s, true)

-- name: elect
-- Held by the connection until it ends.
SELECT pg_try_advisory_lock(%(lock)s)

-- name: lock_partitions
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: kind_of_samples
SELECT relkind FROM pg_class WHERE oid = 'fleet.samples'::regclass

-- name: partitions_of_samples
SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'fleet.samples'::regclass

-- name: drop_chunks
-- Only where TimescaleDB holds the table.
SELECT drop_chunks(%(table)s::regclass, older_than => %(oldest)s)

-- name: has_database
SELECT FROM pg_database WHERE datname = %(name)s

-- name: read_only
SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only')::boolean AS read_only
