-- Since when a case waits to be read again, as reporting says. `waits_version` is the version of the reading with which it
-- was written: where `version` is another, the version before has written the row since, and nobody knows.
alter table readings
    add column waits_since timestamptz,
    add column waits_version bigint;
