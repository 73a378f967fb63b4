-- concurrently
-- Lists by priority, of each facility.
create index concurrently if not exists cases_by_priority on cases (facility_id, priority, case_id);
