-- Of each side: how many instances the case had at the last signature that counts, and since when access knows of
-- more. Reporting does not know the count of what was signed before this: there images are counted from now on.
alter table readings
    add column instance_count integer,
    add column images_since timestamptz;
update readings set instance_count = cases.instance_count
    from cases where cases.case_id = readings.case_id and readings.reported_at is not null;
