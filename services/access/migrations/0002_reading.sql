-- How far cases were read, and who reads them now.

-- What reporting last said of a case, once for each side: a user is answered one side's row and nothing of the
-- other (A59). A row may come before that of its case, and changes nothing of it: neither version nor order.
create table readings (
    case_id uuid not null,
    side text not null check (side in ('group', 'facility')),
    version bigint not null,
    state text not null,
    lock_holder_login text,
    lock_holder_name text,
    lock_ends_at timestamptz,
    read_types text[] not null,
    reported_at timestamptz,
    primary key (case_id, side),
    check (num_nulls(lock_holder_login, lock_holder_name, lock_ends_at) in (0, 3))
);

-- StudyStatusID comes from this and the reading (A55).
alter table cases add column settled boolean;
update cases set settled = study_status_id <> 'IN_TRANSMIT';
alter table cases alter column settled set not null, drop column study_status_id;
