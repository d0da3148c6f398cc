-- A question goes along the lines of a chain until somebody acts; a case names the ended one it follows.

SET LOCAL search_path = fleet, public;

ALTER TABLE escalation
    ADD COLUMN level              int NOT NULL DEFAULT 0,       -- which line of the policy's chain it is with
    ADD COLUMN repeats            int NOT NULL DEFAULT 0,       -- how often the last line was asked again
    ADD COLUMN unreached          text[] NOT NULL DEFAULT '{}', -- whom its messages did not reach since it was last due
    ADD COLUMN asked_at           timestamptz,                  -- when to_person was asked first
    ADD COLUMN acknowledged_by    text,                         -- who is on it ...
    ADD COLUMN acknowledged_until timestamptz;                  -- ... until then: no repeats meanwhile

ALTER TABLE repair_case ADD COLUMN follows_case uuid REFERENCES repair_case; -- the ended case of the same trouble
