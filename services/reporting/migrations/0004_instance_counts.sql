-- How many instances of the case access knew of when the report, or the last addendum to it, was signed. Null: signed by
-- the version before, or access did not say. What came later is marked as images since the report.
alter table reports add column instance_count integer;
-- The most of each read type is found without reading the others.
create index reports_by_count on reports (case_id, read_type, instance_count);
