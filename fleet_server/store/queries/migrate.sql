-- Statements of fleet_server/store/migrate.py: which migrations were applied. Run as owner, outside search_path.

-- name: lock
SELECT pg_advisory_lock(%(lock)s)

-- name: make_ledger
CREATE TABLE IF NOT EXISTS public.forestall_migration (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp() -- real time: it happened to the database
)

-- name: has_ledger
SELECT to_regclass('public.forestall_migration') IS NOT NULL

-- name: applied
SELECT name, checksum, applied_at FROM public.forestall_migration

-- name: record
INSERT INTO public.forestall_migration (name, checksum) VALUES (%(name)s, %(checksum)s)

-- name: lacks_jobs
SELECT to_regclass('public.procrastinate_jobs') IS NULL

-- name: job_tables
SELECT relname, relkind FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'procrastinate%' AND relkind IN ('r', 'S', 'p')

-- name: has_extension
SELECT 1 FROM pg_extension WHERE extname = %(name)s

-- name: is_applied
SELECT 1 FROM public.forestall_migration WHERE name = %(name)s
