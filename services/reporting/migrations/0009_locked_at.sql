-- Since when the lock is held. `locked_version` is the version of the reading with which it was written: where `version` is
-- another, the version before has written the row since, and nobody knows.
alter table readings
    add column locked_at timestamptz,
    add column locked_version bigint;
