-- A code by which the host of the viewer learns whose session it is: it counts once, within 30 s, and for the browser that
-- began there. Of code and browser only digests are kept.
create table viewer_codes (
    code_digest bytea primary key check (length(code_digest) = 32),
    browser_digest bytea not null check (length(browser_digest) = 32),
    session_id uuid not null references sessions on delete cascade,
    case_id uuid not null,
    made_at timestamptz not null
);
create index viewer_codes_by_session on viewer_codes (session_id);
create index viewer_codes_by_time on viewer_codes (made_at);

-- The cookies of that host: each ends with its login session. Of a cookie only its digest is kept.
create table viewers (
    secret_digest bytea primary key check (length(secret_digest) = 32),
    session_id uuid not null references sessions on delete cascade,
    began_at timestamptz not null
);
create index viewers_by_session on viewers (session_id, began_at);
