-- What the registry file last said of an installed component: a file that only repeats it brings no news against what
-- the device or an engineer reported since. '' where no file ever said anything, or none since this column is there.
SET LOCAL search_path = fleet, public;

ALTER TABLE component ADD COLUMN registry_serial text NOT NULL DEFAULT '';
