-- How many of the reserved pieces the last count of the shelf did not find.

SET LOCAL search_path = fleet, public;

ALTER TABLE stock ADD COLUMN short int NOT NULL DEFAULT 0 CHECK (short >= 0);
