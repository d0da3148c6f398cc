-- Statements of ingest/compaction.py, run as owner.

-- name: alone
SELECT pg_try_advisory_xact_lock(%(lock)s) AS alone

-- name: unfolded
-- Without the outboxes that are put off, whose keys would otherwise fill every chunk.
SELECT agent_id, outbox_id::text, batch_no, digest, prev_digest, samples, first_at, recorded_at FROM unfolded_key
 WHERE outbox_id::text || ' of ' || agent_id <> ALL(%(put_off)s::text[])
 LIMIT %(most)s

-- name: touching
SELECT first_batch, last_batch, samples, first_at, recorded_at, first_prev, last_digest, broken_links
  FROM ledger_stored
 WHERE agent_id = %(agent_id)s AND outbox_id = %(outbox_id)s
   AND last_batch >= %(lowest)s - 1 AND first_batch <= %(highest)s + 1

-- name: remove_ranges
DELETE FROM ledger_stored
 WHERE agent_id = %(agent_id)s AND outbox_id = %(outbox_id)s AND first_batch = ANY(%(firsts)s)

-- name: put_range
INSERT INTO ledger_stored (agent_id, outbox_id, first_batch, last_batch, samples, first_at, recorded_at, first_prev,
                           last_digest, broken_links)
VALUES (%(agent_id)s, %(outbox_id)s, %(first)s, %(last)s, %(samples)s, %(first_at)s, %(recorded_at)s, %(first_prev)s,
        %(last_digest)s, %(broken_links)s)
ON CONFLICT (agent_id, outbox_id, first_batch) DO UPDATE
   SET last_batch = excluded.last_batch, samples = excluded.samples, first_at = excluded.first_at,
       recorded_at = excluded.recorded_at, last_digest = excluded.last_digest, broken_links = excluded.broken_links

-- name: due
SELECT agent_id, outbox_id::text FROM batch_stream WHERE lowest_received_at < %(keep_from)s

-- name: keep_writers_out
SELECT pg_advisory_xact_lock(%(lock)s)

-- name: forget_keys
-- The lowest keys of an outbox, up to the first that is too young or that no range covers.
DELETE FROM batch_key AS k
 USING (SELECT batch_no, bool_and(received_at < %(keep_from)s AND covered) OVER (ORDER BY batch_no) AS due
          FROM (SELECT b.batch_no, b.received_at,
                       (SELECT r.last_batch >= b.batch_no FROM ledger_stored r
                         WHERE r.agent_id = b.agent_id AND r.outbox_id = b.outbox_id AND r.first_batch <= b.batch_no
                         ORDER BY r.first_batch DESC LIMIT 1) IS TRUE AS covered
                  FROM batch_key b
                 WHERE b.agent_id = %(agent_id)s AND b.outbox_id = %(outbox_id)s
                 ORDER BY b.batch_no LIMIT %(most)s) AS lowest) AS judged
 WHERE judged.due AND k.agent_id = %(agent_id)s AND k.outbox_id = %(outbox_id)s AND k.batch_no = judged.batch_no

-- name: limit_waiting
SELECT set_config('lock_timeout', %(wait)s, true)
