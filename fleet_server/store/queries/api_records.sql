-- name: audit_entries
SELECT entry_id, tenant_id, at, actor, action, subject, body, trace_id, seq, encode(leaf_hash, 'hex') AS leaf_hash,
       count(*) OVER ()::int AS total
  FROM audit_entry
 WHERE (%(subject)s::text IS NULL OR subject = %(subject)s)
   AND (%(action)s::text IS NULL OR action = %(action)s)
   AND (%(search)s::text IS NULL OR concat_ws(' ', actor, action, subject) ILIKE %(search)s)
 ORDER BY seq IS NOT NULL, seq DESC, recorded_at DESC LIMIT %(limit)s OFFSET %(offset)s;

-- name: audit_status
SELECT (SELECT count(*)::int FROM audit_entry) AS entries,
       (SELECT count(*)::int FROM audit_entry WHERE seq IS NULL) AS pending,
       c.tree_size, encode(c.root_hash, 'hex') AS root_hash, c.signed_at, c.key_id
  FROM (SELECT 1) one LEFT JOIN LATERAL (SELECT * FROM audit_checkpoint ORDER BY tree_size DESC LIMIT 1) c ON true;

-- name: quarantine_counts
SELECT reason, count(*)::int AS batches, max(received_at) AS last_at FROM quarantine GROUP BY reason ORDER BY 2 DESC
 LIMIT 100;
