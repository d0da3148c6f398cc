-- The conservation ledger. For every (agent, outbox) each number in [1, next) is exactly one of stored, quarantined,
-- gap, held, in that precedence; what is left is missing.

-- name: streams
WITH stored AS (
    SELECT agent_id, outbox_id, range_agg(int8range(batch_no, batch_no, '[]')) AS numbers
      FROM batch_key GROUP BY agent_id, outbox_id
), quarantined AS (
    SELECT agent_id, outbox_id, range_agg(int8range(batch_no, batch_no, '[]')) AS numbers
      FROM quarantine
     WHERE agent_id IS NOT NULL AND outbox_id IS NOT NULL AND batch_no > 0
     GROUP BY agent_id, outbox_id
), gaps AS (
    SELECT agent_id, outbox_id, range_agg(int8range(first_batch, last_batch, '[]')) AS numbers
      FROM ledger_gap WHERE first_batch > 0 GROUP BY agent_id, outbox_id
), stream AS (
    SELECT agent_id, outbox_id FROM stored
    UNION SELECT agent_id, outbox_id FROM quarantined
    UNION SELECT agent_id, outbox_id FROM gaps
    UNION SELECT agent_id, outbox_id FROM ledger_held
), joined AS (
    SELECT stream.agent_id, stream.outbox_id,
           coalesce(stored.numbers, '{}') AS stored, coalesce(quarantined.numbers, '{}') AS quarantined,
           coalesce(gaps.numbers, '{}') AS gaps, coalesce(held.held, '{}') AS held,
           greatest(coalesce(held.next_batch, 1), coalesce(upper(stored.numbers), 1),
                    coalesce(upper(quarantined.numbers), 1), coalesce(upper(gaps.numbers), 1)) AS next_batch,
           coalesce(held.next_batch, 1) AS reported_next, held.next_since
      FROM stream
      LEFT JOIN stored USING (agent_id, outbox_id)
      LEFT JOIN quarantined USING (agent_id, outbox_id)
      LEFT JOIN gaps USING (agent_id, outbox_id)
      LEFT JOIN ledger_held held USING (agent_id, outbox_id)
)
SELECT joined.agent_id, joined.outbox_id::text, joined.next_batch, joined.reported_next, joined.next_since,
       agent.tenant_id, stored, quarantined - stored AS quarantined, gaps - stored - quarantined AS gaps,
       (held * below) - stored - quarantined - gaps AS held,
       below - stored - quarantined - gaps - held AS missing
  FROM joined
  LEFT JOIN agent USING (agent_id)
 CROSS JOIN LATERAL (SELECT int8multirange(int8range(1, next_batch)) AS below) AS all_numbers
 WHERE %(agent_id)s::text IS NULL OR joined.agent_id = %(agent_id)s
 ORDER BY joined.agent_id, joined.outbox_id

-- name: evidence
-- Since when it is known that a number below %(upper)s exists: a later batch was stored.
SELECT recorded_at FROM batch_key
 WHERE agent_id = %(agent_id)s AND outbox_id = %(outbox_id)s AND batch_no >= %(upper)s
 ORDER BY batch_no LIMIT 1

-- name: now
SELECT clock_timestamp() AS now

-- name: sample_mismatches
-- Batches whose stored samples are not as many as their header declared.
SELECT k.agent_id, k.outbox_id::text, k.batch_no, k.samples AS declared, coalesce(s.n, 0) AS found
  FROM batch_key k
  LEFT JOIN (SELECT agent_id, outbox_id, batch_no, sum(n) AS n FROM samples GROUP BY 1, 2, 3) s
    USING (agent_id, outbox_id, batch_no)
 WHERE k.samples <> coalesce(s.n, 0) AND k.first_at >= %(oldest)s
   AND (%(agent_id)s::text IS NULL OR k.agent_id = %(agent_id)s)
 LIMIT 100

-- name: doubled
-- A series of a batch that stands twice in the samples: exactly-once failed.
SELECT agent_id, outbox_id::text, batch_no, series_id, count(*) AS times
  FROM samples
 WHERE %(agent_id)s::text IS NULL OR agent_id = %(agent_id)s
 GROUP BY 1, 2, 3, 4 HAVING count(*) > 1 LIMIT 100

-- name: broken_chain
-- Neighbours in one outbox whose digests do not chain.
SELECT b.agent_id, b.outbox_id::text, b.batch_no
  FROM batch_key b
  JOIN batch_key a ON a.agent_id = b.agent_id AND a.outbox_id = b.outbox_id AND a.batch_no = b.batch_no - 1
 WHERE b.prev_digest <> a.digest AND (%(agent_id)s::text IS NULL OR b.agent_id = %(agent_id)s)
 LIMIT 100
