-- The audit log: an act inserts its entry unchained in its own transaction; one sequencer gives entries their index
-- in an RFC 6962 tree and signs checkpoints. Nothing is ever updated but seq, once, from NULL.
SET LOCAL search_path = fleet, public;

CREATE TABLE audit_entry (
    entry_id    uuid PRIMARY KEY,
    tenant_id   text,                                     -- NULL: concerns no single tenant
    at          timestamptz NOT NULL,                     -- domain time
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor       text NOT NULL,                            -- 'system:worker', 'user:anna', 'agent:...'
    action      text NOT NULL,
    subject     text NOT NULL,                            -- 'case:...', 'asset:...'
    body        jsonb NOT NULL,                           -- what the decision used and decided; no secrets
    trace_id    text NOT NULL DEFAULT '',
    canonical   text NOT NULL,                            -- the exact text that is hashed
    seq         bigint UNIQUE,
    leaf_hash   bytea
);
CREATE INDEX ON audit_entry (subject);
CREATE INDEX audit_pending ON audit_entry (recorded_at) WHERE seq IS NULL;

CREATE TABLE audit_checkpoint (
    tree_size bigint PRIMARY KEY,
    root_hash bytea NOT NULL,
    signed_at timestamptz NOT NULL,
    key_id    text NOT NULL,
    signature bytea NOT NULL
);

CREATE FUNCTION audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR OLD.seq IS NOT NULL
       OR (NEW.entry_id, NEW.at, NEW.actor, NEW.action, NEW.subject, NEW.body, NEW.canonical)
          IS DISTINCT FROM (OLD.entry_id, OLD.at, OLD.actor, OLD.action, OLD.subject, OLD.body, OLD.canonical) THEN
        RAISE EXCEPTION 'the audit log is append-only';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_guard();

ALTER TABLE audit_entry ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker_all ON audit_entry TO forestall_worker USING (true) WITH CHECK (true);
CREATE POLICY ingest_add ON audit_entry FOR INSERT TO forestall_ingest WITH CHECK (true);
CREATE POLICY web_read ON audit_entry FOR SELECT TO forestall_web USING (may_see(coalesce(tenant_id, '')));
GRANT SELECT, INSERT, UPDATE ON audit_entry TO forestall_worker;
GRANT INSERT ON audit_entry TO forestall_ingest;
GRANT SELECT ON audit_entry TO forestall_web; -- what people do is written by the worker role, with the act
GRANT SELECT, INSERT ON audit_checkpoint TO forestall_worker;
GRANT SELECT ON audit_checkpoint TO forestall_web;
