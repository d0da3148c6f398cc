-- The conservation ledger. For every (agent, outbox) each number in [1, next) is exactly one of stored, quarantined,
-- gap, held, in that precedence; what is left is missing.

-- name: streams
WITH stored AS (
    SELECT agent_id, outbox_id, range_agg(part) AS numbers
      FROM (SELECT agent_id, outbox_id, int8range(first_batch, last_batch, '[]') AS part FROM ledger_stored
            UNION ALL
            SELECT agent_id, outbox_id, int8range(batch_no, batch_no, '[]') FROM unfolded_key) AS parts
     GROUP BY agent_id, outbox_id
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
           coalesce(held.next_batch, 1) AS reported_next, held.next_since,
           held.recorded_at AS report_recorded_at
      FROM stream
      LEFT JOIN stored USING (agent_id, outbox_id)
      LEFT JOIN quarantined USING (agent_id, outbox_id)
      LEFT JOIN gaps USING (agent_id, outbox_id)
      LEFT JOIN ledger_held held USING (agent_id, outbox_id)
)
SELECT joined.agent_id, joined.outbox_id::text, joined.next_batch, joined.reported_next, joined.next_since,
       joined.report_recorded_at,
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
SELECT min(recorded_at) AS recorded_at FROM (
    (SELECT recorded_at FROM batch_key
      WHERE agent_id = %(agent_id)s AND outbox_id = %(outbox_id)s AND batch_no >= %(upper)s
      ORDER BY batch_no LIMIT 1)
    UNION ALL
    (SELECT recorded_at FROM ledger_stored
      WHERE agent_id = %(agent_id)s AND outbox_id = %(outbox_id)s AND first_batch >= %(upper)s
      ORDER BY first_batch LIMIT 1)) AS later

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

-- name: range_mismatches
-- The same for whole ranges, whose keys may be gone.
SELECT r.agent_id, r.outbox_id::text, r.first_batch, r.last_batch, r.samples AS declared, coalesce(s.n, 0) AS found
  FROM ledger_stored r
  LEFT JOIN (
       SELECT agent_id, outbox_id, first_batch, sum(n) AS n
         FROM (SELECT agent_id, outbox_id, batch_no, sum(n) AS n FROM samples GROUP BY 1, 2, 3) AS batch
        CROSS JOIN LATERAL (
              SELECT first_batch FROM ledger_stored o
               WHERE o.agent_id = batch.agent_id AND o.outbox_id = batch.outbox_id AND o.first_batch <= batch.batch_no
                 AND o.last_batch >= batch.batch_no
               ORDER BY o.first_batch DESC LIMIT 1) AS of_range
        GROUP BY 1, 2, 3) s USING (agent_id, outbox_id, first_batch)
 WHERE r.samples <> coalesce(s.n, 0) AND r.first_at >= %(oldest)s
   AND (%(agent_id)s::text IS NULL OR r.agent_id = %(agent_id)s)
 LIMIT 100

-- name: doubled
-- A series of a batch that stands twice in the samples: exactly-once failed.
SELECT agent_id, outbox_id::text, batch_no, series_id, count(*) AS times
  FROM samples
 WHERE %(agent_id)s::text IS NULL OR agent_id = %(agent_id)s
 GROUP BY 1, 2, 3, 4 HAVING count(*) > 1 LIMIT 100

-- name: broken_chain
-- Neighbours in one outbox whose digests do not chain, by keys and by the ends of ranges.
WITH tail AS (
    SELECT agent_id, outbox_id, batch_no, digest FROM batch_key
    UNION SELECT agent_id, outbox_id, last_batch, last_digest FROM ledger_stored
), head AS (
    SELECT agent_id, outbox_id, batch_no, prev_digest FROM batch_key
    UNION SELECT agent_id, outbox_id, first_batch, first_prev FROM ledger_stored
)
SELECT head.agent_id, head.outbox_id::text, head.batch_no
  FROM head JOIN tail ON tail.agent_id = head.agent_id AND tail.outbox_id = head.outbox_id
                     AND tail.batch_no = head.batch_no - 1
 WHERE head.prev_digest <> tail.digest AND (%(agent_id)s::text IS NULL OR head.agent_id = %(agent_id)s)
 LIMIT 100

-- name: broken_ranges
SELECT agent_id, outbox_id::text, first_batch, last_batch, broken_links FROM ledger_stored
 WHERE broken_links > 0 AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
 LIMIT 100

-- name: write_off
INSERT INTO ledger_gap (agent_id, outbox_id, first_batch, last_batch, batch_class, reason, received_at)
SELECT agent_id, outbox_id, lower(part), upper(part) - 1, 'unknown', %(reason)s, %(at)s
  FROM ledger_held CROSS JOIN LATERAL unnest(held) AS part
 WHERE agent_id = %(agent_id)s AND outbox_id = %(outbox_id)s
