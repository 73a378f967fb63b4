-- Who has looked at the images of a case in this hour: the audit has one row for it.
create table views (
    login text not null,
    session text not null,
    case_id uuid not null,
    hour timestamptz not null,
    primary key (login, session, case_id)
);
