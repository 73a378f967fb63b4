-- The page of a list that a login session was shown last, so that a case leads to the next: ids alone, in their order.
create table shown_lists (
    session_id uuid primary key references sessions on delete cascade,
    case_ids uuid[] not null
);

-- Who of the group's side has a case open, in which login session. It counts for a short while after it was seen last.
create table open_cases (
    case_id uuid not null,
    session_id uuid not null references sessions on delete cascade,
    seen_at timestamptz not null,
    primary key (case_id, session_id)
);
create index open_cases_by_session on open_cases (session_id);
create index open_cases_by_time on open_cases (seen_at);
