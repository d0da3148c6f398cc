-- name: pending
-- In order of arrival; the row locks keep a second sequencer out even if the advisory lock failed.
SELECT entry_id, canonical FROM audit_entry WHERE seq IS NULL
 ORDER BY recorded_at, entry_id LIMIT %(limit)s FOR UPDATE

-- name: sequence
UPDATE audit_entry SET seq = given.seq, leaf_hash = given.leaf
  FROM unnest(%(ids)s::uuid[], %(seqs)s::bigint[], %(leaves)s::bytea[]) AS given(entry_id, seq, leaf)
 WHERE audit_entry.entry_id = given.entry_id

-- name: leaves
SELECT seq, leaf_hash FROM audit_entry WHERE seq IS NOT NULL ORDER BY seq

-- name: entries
SELECT seq, entry_id, tenant_id, at, actor, action, subject, body, trace_id, canonical, leaf_hash
  FROM audit_entry WHERE seq IS NOT NULL ORDER BY seq

-- name: count_pending
SELECT count(*) AS pending FROM audit_entry WHERE seq IS NULL

-- name: entry
SELECT entry_id, seq, leaf_hash FROM audit_entry WHERE entry_id = %(entry_id)s

-- name: insert_checkpoint
INSERT INTO audit_checkpoint (tree_size, root_hash, signed_at, key_id, signature)
VALUES (%(tree_size)s, %(root_hash)s, %(signed_at)s, %(key_id)s, %(signature)s)

-- name: last_checkpoint
SELECT tree_size, root_hash, signed_at, key_id, signature FROM audit_checkpoint ORDER BY tree_size DESC LIMIT 1

-- name: checkpoints
SELECT tree_size, root_hash, signed_at, key_id, signature FROM audit_checkpoint ORDER BY tree_size

-- name: insert_entry
INSERT INTO fleet.audit_entry (entry_id, tenant_id, at, actor, action, subject, body, trace_id, canonical)
VALUES (%(entry_id)s, %(tenant_id)s, %(at)s, %(actor)s, %(action)s, %(subject)s, %(body)s, %(trace_id)s, %(canonical)s)
