-- An act whose answer was not what was asked: what the other system may hold is being released there.

SET LOCAL search_path = fleet, public;

ALTER TABLE act DROP CONSTRAINT act_state_check;
ALTER TABLE act ADD CONSTRAINT act_state_check CHECK (state IN ('intended', 'held', 'refused', 'unknown', 'consumed',
                                                                'expired', 'declined', 'released', 'unwanted'));
