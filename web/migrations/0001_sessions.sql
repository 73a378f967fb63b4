-- Who is signed in. A row is a login session; whoever ends it deletes it. Of the cookie only its digest is kept.
create table sessions (
    session_id uuid primary key,
    secret_digest bytea not null unique check (length(secret_digest) = 32),
    user_id uuid not null,
    login text not null,
    name text not null,
    issuer text not null,
    subject text not null,
    began_at timestamptz not null,
    authenticated_at timestamptz not null, -- when the person last proved who they are
    used_at timestamptz not null, -- when the person last did something, to the minute
    resolved_at timestamptz not null, -- when access last said that the person may act
    ends_at timestamptz not null,
    locked boolean not null default false
);
create index sessions_by_user on sessions (user_id, began_at);
create index sessions_by_end on sessions (ends_at);

-- Passwords of the development issuer, which runs on one machine only.
create table development_passwords (
    user_id uuid primary key,
    login text not null unique,
    password text not null, -- argon2id, in the format of password hashes (PHC)
    chosen_at timestamptz not null
);

create table preferences (
    user_id uuid primary key,
    theme text not null,
    density text not null
);
