-- Statements of ingest. Arrays instead of many rows: one round trip each for a whole micro-batch.

-- name: agents
SELECT agent_id, tenant_id, site_id, third_party FROM agent

-- name: assets
SELECT asset_id, tenant_id, agent_id FROM asset

-- name: schemas
SELECT agent_id, device_id, schema_digest, definition FROM metric_schema
 WHERE (agent_id, device_id, schema_digest) IN
       (SELECT * FROM unnest(%(agents)s::text[], %(devices)s::text[], %(digests)s::text[]))

-- name: share_keys
-- Keys are only taken away while nobody stores: whoever stores then sees the range that stands for them.
SELECT pg_advisory_xact_lock_shared(%(lock)s)

-- name: insert_keys
INSERT INTO batch_key (agent_id, outbox_id, batch_no, digest, prev_digest, batch_class, device_id, samples, first_at,
                       received_at)
SELECT * FROM unnest(%(agents)s::text[], %(outboxes)s::uuid[], %(numbers)s::bigint[], %(digests)s::bytea[],
                     %(prevs)s::bytea[], %(classes)s::text[], %(devices)s::text[], %(samples)s::int[],
                     %(firsts)s::timestamptz[], %(received)s::timestamptz[])
       AS new (agent_id, outbox_id, batch_no, digest, prev_digest, batch_class, device_id, samples, first_at, received_at)
 WHERE (SELECT r.last_batch >= new.batch_no FROM ledger_stored r
         WHERE r.agent_id = new.agent_id AND r.outbox_id = new.outbox_id AND r.first_batch <= new.batch_no
         ORDER BY r.first_batch DESC LIMIT 1) IS NOT TRUE
ON CONFLICT DO NOTHING
RETURNING agent_id, outbox_id::text, batch_no

-- name: known_digests
-- Of those that are stored. No digest: the key is gone, a range stands for it.
SELECT old.agent_id, old.outbox_id::text, old.batch_no, k.digest
  FROM unnest(%(agents)s::text[], %(outboxes)s::uuid[], %(numbers)s::bigint[]) AS old (agent_id, outbox_id, batch_no)
  LEFT JOIN batch_key k USING (agent_id, outbox_id, batch_no)
 WHERE k.digest IS NOT NULL
    OR (SELECT r.last_batch >= old.batch_no FROM ledger_stored r
         WHERE r.agent_id = old.agent_id AND r.outbox_id = old.outbox_id AND r.first_batch <= old.batch_no
         ORDER BY r.first_batch DESC LIMIT 1)

-- name: insert_series
INSERT INTO series (tenant_id, asset_id, metric, unit, slot)
SELECT * FROM unnest(%(tenants)s::text[], %(assets)s::text[], %(metrics)s::text[], %(units)s::text[], %(slots)s::text[])
ON CONFLICT (asset_id, metric, unit) DO NOTHING

-- name: find_series
SELECT asset_id, metric, unit, series_id FROM series
 WHERE (asset_id, metric, unit) IN (SELECT * FROM unnest(%(assets)s::text[], %(metrics)s::text[], %(units)s::text[]))

-- name: upsert_latest
INSERT INTO latest AS l (series_id, t, v)
SELECT * FROM unnest(%(series)s::int[], %(times)s::timestamptz[], %(vals)s::float8[])
ON CONFLICT (series_id) DO UPDATE SET t = excluded.t, v = excluded.v WHERE l.t < excluded.t

-- name: touch_assets
UPDATE asset SET last_seen_at = seen.at
  FROM unnest(%(assets)s::text[], %(times)s::timestamptz[]) AS seen(asset_id, at)
 WHERE asset.asset_id = seen.asset_id AND (asset.last_seen_at IS NULL OR asset.last_seen_at < seen.at)

-- name: touch_agents
UPDATE agent SET last_seen_at = seen.at, heard_at = greatest(heard_at, seen.at)
  FROM unnest(%(agents)s::text[], %(times)s::timestamptz[]) AS seen(agent_id, at)
 WHERE agent.agent_id = seen.agent_id AND (agent.last_seen_at IS NULL OR agent.last_seen_at < seen.at)

-- name: insert_finding
INSERT INTO finding (finding_id, revision, tenant_id, asset_id, slot, state, score, severity, failure_mode,
                     detected_at, onset_at, body, trace_id, received_at)
VALUES (%(finding_id)s, %(revision)s, %(tenant_id)s, %(asset_id)s, %(slot)s, %(state)s, %(score)s, %(severity)s,
        %(failure_mode)s, %(detected_at)s, %(onset_at)s, %(body)s, %(trace_id)s, %(received_at)s)
ON CONFLICT DO NOTHING
RETURNING finding_id

-- name: insert_state
INSERT INTO state_change (tenant_id, asset_id, slot, state, previous, at, score, reason)
VALUES (%(tenant_id)s, %(asset_id)s, %(slot)s, %(state)s, %(previous)s, %(at)s, %(score)s, %(reason)s)
ON CONFLICT DO NOTHING

-- name: insert_gap
INSERT INTO ledger_gap (agent_id, outbox_id, first_batch, last_batch, batch_class, reason, device_id, t0, t1, received_at)
VALUES (%(agent_id)s, %(outbox_id)s, %(first)s, %(last)s, %(batch_class)s, %(reason)s, %(device_id)s, %(t0)s, %(t1)s,
        %(received_at)s)
ON CONFLICT DO NOTHING

-- name: upsert_held
INSERT INTO ledger_held AS h (agent_id, outbox_id, held, next_batch, reported_at)
VALUES (%(agent_id)s, %(outbox_id)s, %(held)s::int8multirange, %(next_batch)s, %(reported_at)s)
ON CONFLICT (agent_id, outbox_id) DO UPDATE
   SET held = excluded.held, next_batch = excluded.next_batch, reported_at = excluded.reported_at,
       recorded_at = clock_timestamp(),
       next_since = CASE WHEN h.next_batch = excluded.next_batch THEN h.next_since ELSE clock_timestamp() END
 WHERE excluded.next_batch >= h.next_batch -- numbers only count up: a lower one is an older report, overtaken

-- name: quarantine
INSERT INTO quarantine (tenant_id, agent_id, topic, outbox_id, batch_no, reason, detail, payload, payload_bytes,
                        received_at)
SELECT %(tenant_id)s, %(agent_id)s, %(topic)s, %(outbox_id)s, %(batch_no)s::bigint, %(reason)s, %(detail)s,
       %(payload)s, %(payload_bytes)s, %(received_at)s
 WHERE NOT EXISTS (SELECT FROM quarantine q
                    WHERE q.agent_id = %(agent_id)s AND q.outbox_id = %(outbox_id)s::uuid
                      AND q.batch_no = %(batch_no)s::bigint AND q.reason = %(reason)s)

-- name: forget_quarantined
-- What had no batch number goes; of a batch the number and the reason stay, the ledger counts on them.
WITH gone AS (DELETE FROM quarantine WHERE received_at < %(oldest)s AND batch_no IS NULL RETURNING 1)
UPDATE quarantine SET payload = '' WHERE received_at < %(oldest)s AND batch_no IS NOT NULL AND payload <> ''

-- name: node_born
UPDATE agent SET online = true, last_seen_at = %(at)s, heard_at = %(at)s, born_ms = %(born_ms)s, left_at = NULL,
       agent_version = %(agent_version)s,
       wire_version = %(wire_version)s, boot_id = %(boot_id)s, bd_seq = %(bd_seq)s, outbox_id = %(outbox_id)s,
       models = %(models)s, time_quality = %(time_quality)s
 WHERE agent_id = %(agent_id)s

-- name: node_died
-- An agent that left says so at a later time of its own than its birth; its will was written before the birth.
UPDATE agent SET online = false, left_at = CASE WHEN %(sent_ms)s::bigint > born_ms THEN %(at)s::timestamptz END
 WHERE agent_id = %(agent_id)s AND bd_seq IS NOT DISTINCT FROM %(bd_seq)s

-- name: agent_heard
UPDATE agent SET heard_at = %(at)s WHERE agent_id = %(agent_id)s AND (heard_at IS NULL OR heard_at < %(at)s)

-- name: save_schema
INSERT INTO metric_schema (schema_digest, agent_id, device_id, definition, seen_at)
VALUES (%(digest)s, %(agent_id)s, %(device_id)s, %(definition)s, %(at)s)
ON CONFLICT DO NOTHING

-- name: asset_for_update
SELECT asset_id, tenant_id, asset_class, model, serial, firmware FROM asset WHERE asset_id = %(asset_id)s FOR UPDATE

-- name: asset_born
UPDATE asset SET model = %(model)s, serial = %(serial)s, firmware = %(firmware)s, last_seen_at = %(at)s
 WHERE asset_id = %(asset_id)s

-- name: firmware_seen
INSERT INTO firmware_history (asset_id, tenant_id, firmware, seen_at)
VALUES (%(asset_id)s, %(tenant_id)s, %(firmware)s, %(at)s)
ON CONFLICT DO NOTHING

-- name: installed
SELECT component_id, slot, component_type, serial, part_no, reported_serial FROM component
 WHERE asset_id = %(asset_id)s AND valid_to IS NULL ORDER BY slot

-- name: component_out
UPDATE component SET valid_to = greatest(%(at)s, valid_from) WHERE component_id = %(component_id)s

-- name: component_in
INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from, reported_serial)
VALUES (%(tenant_id)s, %(asset_id)s, %(slot)s, %(component_type)s, %(serial)s, %(part_no)s, %(at)s, %(serial)s)

-- name: note_reported
UPDATE component SET reported_serial = told.serial
  FROM unnest(%(slots)s::text[], %(serials)s::text[]) AS told(slot, serial)
 WHERE component.asset_id = %(asset_id)s AND component.slot = told.slot AND component.valid_to IS NULL
   AND component.reported_serial <> told.serial
