-- Notices: that something is to be told, never what. Content and addresses are asked of their owners at each
-- attempt and kept nowhere (docs/decisions/0006). Ids are minted by the service.

create table notices (
    notice_id       uuid        primary key,
    message         text        not null
        check (message in ('share_created', 'privilege_expiring', 'privilege_expiring_office')),
    intent          text        not null,
    bucket_id       uuid,                      -- what a share's mail is about,
    user_id         uuid,                      -- what a reminder is about: whose privilege,
    facility_id     uuid        not null,      -- where (of a share: its sending facility),
    expires_at      timestamptz,               -- when it expires,
    days            integer,                   -- and how many days before that the reminder is due
    state           text        not null check (state in ('waiting', 'unknown', 'sent', 'dead', 'cancelled')),
    attempts        integer     not null default 0,  -- the attempt that holds the notice is the last
    asked_at        timestamptz not null,
    trying_since    timestamptz,               -- of the first attempt, or of the first after a resend
    next_attempt_at timestamptz not null,      -- while an attempt holds the notice: when it no longer does
    sent_at         timestamptz,
    last_error      text        not null default '',
    unique (message, intent),
    check ((bucket_id is not null) = (message = 'share_created')),
    check ((bucket_id is null) = (user_id is not null and expires_at is not null and days is not null)),
    check ((sent_at is not null) = (state = 'sent'))
);
create index notices_waiting on notices (next_attempt_at) where state = 'waiting';
create index notices_open on notices (state) where state in ('waiting', 'unknown', 'dead');
create index notices_by_bucket on notices (bucket_id) where state = 'waiting';
create index notices_by_user on notices (user_id) where state = 'waiting';
create index notices_by_facility on notices (facility_id, notice_id) where bucket_id is not null;

-- The users whose privileges are watched, as far as access has told.
create table users (
    user_id uuid   primary key,
    version bigint not null
);

-- Privileges that will expire; a renewed one has another row.
create table expiring (
    user_id     uuid        not null references users,
    facility_id uuid        not null,
    expires_at  timestamptz not null,
    last_days   integer,                       -- the last step that was reminded of; null: none yet
    primary key (user_id, facility_id)
);
create index expiring_soon on expiring (expires_at);
