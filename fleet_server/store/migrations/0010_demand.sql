-- What proposals of orders need to know of a part and its stock.

SET LOCAL search_path = fleet, public;

-- NULL: nobody said how long a new one takes to the centre, an assumed time is used and said to be assumed.
ALTER TABLE part ADD COLUMN replenish_days double precision CHECK (replenish_days >= 0 AND replenish_days <= 730);
-- Ordered for the centre and not there yet.
ALTER TABLE stock ADD COLUMN on_order int NOT NULL DEFAULT 0 CHECK (on_order >= 0);

-- All lives of a slot, and whether a case of it ended: looked up for every installed component.
CREATE INDEX component_lives ON component (asset_id, slot, valid_from);
CREATE INDEX case_ends ON repair_case (asset_id, slot, closed_at) WHERE closed_at IS NOT NULL;
