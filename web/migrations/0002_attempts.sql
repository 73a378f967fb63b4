-- How often somebody was wrong of late, by a keyed digest of a login or of an address: no row tells what was typed.
create table attempts (
    key_digest bytea primary key check (length(key_digest) = 32),
    began_at timestamptz not null, -- the first wrong try that counts
    failures integer not null
);
create index attempts_by_time on attempts (began_at);

-- What somebody chose with the code of an invitation, from before access hears of it. A row that is not finished is taken
-- up again by whoever shows the code: a process that ended in between burns no code.
create table invitation_choices (
    code_digest bytea primary key check (length(code_digest) = 32),
    user_id uuid not null,
    password text not null, -- argon2id, in the format of password hashes (PHC)
    chosen_at timestamptz not null,
    finished boolean not null default false
);
create index invitation_choices_by_time on invitation_choices (chosen_at);
