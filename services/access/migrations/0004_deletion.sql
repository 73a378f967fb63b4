-- Deletion: which cases are being deleted, and which ids never come back.

-- One row for each deletion, kept for good: ingest may ask again and is answered the same.
create table deletions (
    case_id uuid primary key,
    deletion_id uuid not null unique,
    facility_id uuid not null,               -- the owner
    study_ids uuid[] not null,               -- as far as access knew them
    begun_at timestamptz not null
);

-- The CaseIds and StudyIds that were purged. Whoever first writes a row of a case looks here, so that what
-- was fetched before the purge brings nothing back.
create table tombstones (
    id uuid primary key
);

-- A case that is being deleted is hidden from everybody until it is purged.
alter table cases add column deletion_id uuid references deletions (deletion_id);
create index cases_being_deleted on cases (case_id) where deletion_id is not null;
