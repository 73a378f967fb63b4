-- Buckets: what shares show to their recipients. And how a user is reached.

alter table users
    add column email text not null default '',
    add column mobile_number text not null default '',
    add column language text not null default '';

-- A bucket is one share's part for one recipient; sharing keeps it, and here is what sight needs of it. It gives
-- sight while it is open and its end (infinity: none) has not come. `version` is sharing's; 0 is as granted. What
-- sharing told of a bucket that was not granted here is kept without its terms, and is never granted any more.
create table buckets (
    bucket_id uuid primary key,
    version bigint not null,
    open boolean not null,
    ends_at timestamptz not null,
    sender_id uuid references users,
    user_id uuid references users,
    facility_id uuid,
    two_factor boolean,
    write_report boolean,
    allow_further_sharing boolean,
    parent_bucket_id uuid,
    check (
        num_nulls(sender_id, user_id, facility_id, two_factor, write_report, allow_further_sharing) in (0, 6)
    )
);
create index buckets_by_user on buckets (user_id, ends_at) where open;

-- The recipient and `received_at` never change, and are copied.
create table bucket_cases (
    case_id uuid not null references cases on delete cascade,
    user_id uuid not null references users,
    bucket_id uuid not null references buckets on delete cascade,
    received_at timestamptz not null,
    primary key (case_id, user_id, bucket_id)
);
create index bucket_cases_by_bucket on bucket_cases (bucket_id, received_at desc, case_id desc);

-- The login sessions in which a code was redeemed (A57).
create table bucket_sessions (
    bucket_id uuid not null references buckets on delete cascade,
    session text not null check (session <> ''),
    primary key (bucket_id, session)
);
