-- Statements of the connectors that keep their records in Forestall's own tables.

-- name: contracts_of
SELECT contract_id, kind, component_types, valid_from, valid_to, terms
  FROM contract
 WHERE tenant_id = %(tenant_id)s AND asset_serial IN (%(asset_serial)s, '*')
 ORDER BY kind DESC, asset_serial = '*', valid_to DESC, contract_id
 LIMIT 100

-- name: stock_that_fits
SELECT part.part_no, part.label, part.price_eur, stock.on_hand, centre.centre_id, centre.name AS centre_name,
       centre.latitude, centre.longitude, centre.handling_h
  FROM part
  JOIN stock USING (part_no)
  JOIN fulfilment_centre AS centre USING (centre_id)
 WHERE stock.on_hand > 0
   AND part.component_type = %(component_type)s
   AND (part.fits_models = '{}' OR %(model)s = ANY (part.fits_models))
   AND (part.part_no = %(part_no)s OR NOT EXISTS (SELECT FROM part AS same WHERE same.part_no = %(part_no)s))
 LIMIT 200

-- name: reserve_part
INSERT INTO part_reservation (reservation_id, tenant_id, idempotency_key, centre_id, part_no, quantity, state,
                              arrives_at, reserved_at)
VALUES (%(reservation_id)s, %(tenant_id)s, %(key)s, %(centre_id)s, %(part_no)s, 1, 'held',
        %(arrives_at)s, %(reserved_at)s)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING *

-- name: take_stock
UPDATE stock SET on_hand = on_hand - 1
 WHERE centre_id = %(centre_id)s AND part_no = %(part_no)s AND on_hand > 0
RETURNING on_hand

-- name: return_stock
-- A piece that the last count did not find (short) is not there to be promised again.
UPDATE stock SET on_hand = on_hand + CASE WHEN short > 0 THEN 0 ELSE 1 END, short = greatest(0, short - 1)
 WHERE centre_id = %(centre_id)s AND part_no = %(part_no)s

-- name: reservation_by_key
SELECT * FROM part_reservation WHERE idempotency_key = %(key)s

-- name: release_part
UPDATE part_reservation SET state = 'released' WHERE idempotency_key = %(key)s AND state = 'held' RETURNING *

-- name: consume_part
UPDATE part_reservation SET state = 'consumed' WHERE idempotency_key = %(key)s AND state = 'held'

-- name: engineers_with_skill
SELECT person.person_id, person.name,
       coalesce(array_agg(lower(b.during) ORDER BY lower(b.during)) FILTER (WHERE b.booking_id IS NOT NULL), '{}') AS starts,
       coalesce(array_agg(upper(b.during) ORDER BY lower(b.during)) FILTER (WHERE b.booking_id IS NOT NULL), '{}') AS ends
  FROM person
  LEFT JOIN engineer_booking AS b
    ON b.person_id = person.person_id AND b.state = 'held' AND b.during && tstzrange(%(start)s, %(end)s)
 WHERE person.active AND person.role = 'engineer' AND %(skill)s = ANY (person.skills)
   AND (person.tenant_id IS NULL OR person.tenant_id = %(tenant_id)s)
   AND (person.site_id IS NULL OR person.site_id = %(site_id)s)
   AND (person.region IS NULL OR person.region = %(region)s)
 GROUP BY person.person_id, person.name, person.site_id, person.region
 ORDER BY person.site_id IS NULL, person.region IS NULL, count(b.booking_id), person.person_id
 LIMIT 50 -- the least booked of the nearest: a bound must not hide who is free behind who is not

-- name: create_order
INSERT INTO work_order (work_order_id, tenant_id, case_id, idempotency_key, asset_id, state, starts_at, ends_at, body,
                        created_at)
VALUES (%(work_order_id)s, %(tenant_id)s, %(case_id)s, %(key)s, %(asset_id)s, 'open', %(starts_at)s, %(ends_at)s,
        %(body)s, %(created_at)s)
ON CONFLICT (idempotency_key) DO NOTHING

-- name: order_by_key
SELECT * FROM work_order WHERE idempotency_key = %(key)s

-- name: lock_order
SELECT * FROM work_order WHERE idempotency_key = %(key)s FOR UPDATE

-- name: cancel_order
UPDATE work_order SET state = 'cancelled'
 WHERE idempotency_key = %(key)s AND state IN ('open', 'dispatched', 'started')
RETURNING work_order_id

-- name: dispatch_order
UPDATE work_order SET state = 'dispatched', engineer_id = %(person_id)s, starts_at = %(start)s, ends_at = %(end)s
 WHERE idempotency_key = %(order_key)s

-- name: booking_by_key
SELECT booking_id, person_id, lower(during) AS start, upper(during) AS "end", state
  FROM engineer_booking WHERE idempotency_key = %(key)s

-- name: book_engineer
INSERT INTO engineer_booking (booking_id, tenant_id, idempotency_key, person_id, during, work_order_key, state)
VALUES (%(booking_id)s, %(tenant_id)s, %(key)s, %(person_id)s, tstzrange(%(start)s, %(end)s), %(order_key)s, 'held')
RETURNING booking_id, person_id, lower(during) AS start, upper(during) AS "end", state

-- name: release_booking
UPDATE engineer_booking SET state = 'released' WHERE idempotency_key = %(key)s AND state = 'held'

-- name: release_bookings_of_order
UPDATE engineer_booking SET state = 'released' WHERE work_order_key = %(key)s AND state = 'held'
