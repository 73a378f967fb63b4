-- The cases that were purged. Whoever first writes a row of a case looks here.
create table tombstones (
    case_id uuid primary key
);
