-- Since when a case is locked, as reporting says. `locked_version` is the version of the reading with which it was written:
-- where `version` is another, the version before has written the row since, and nobody knows.
alter table readings
    add column locked_since timestamptz,
    add column locked_version bigint;
