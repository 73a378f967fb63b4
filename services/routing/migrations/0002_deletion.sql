-- The CaseIds and StudyIds that were purged, each with the case it was purged with. Whoever first writes a row
-- of a study looks here; whoever hears of the deletion again is told the same StudyIds.
create table tombstones (
    id uuid primary key,
    case_id uuid not null
);
create index tombstones_by_case on tombstones (case_id);
