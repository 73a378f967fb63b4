-- Who signs in as whom: what issuers say of persons, and the invitations by which persons bind that to users.

create table identities (
    issuer text not null,
    subject text not null,
    user_id uuid not null references users,
    bound_by text not null,
    bound_at timestamptz not null,
    primary key (issuer, subject)
);
create index identities_by_user on identities (user_id);

-- One for each user: a new one takes the place of the one before.
create table invitations (
    user_id uuid primary key references users,
    invitation_id uuid not null unique,
    digest bytea not null,                   -- SHA-256 of 32 random bytes, which nobody keeps
    invited_by text,                         -- null: who has the database
    invited_at timestamptz not null,
    ends_at timestamptz not null,
    wrong_codes integer not null default 0,  -- in succession
    used_at timestamptz
);
