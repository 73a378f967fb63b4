-- Shares and their buckets, the rules of sending facilities, what senders chose last. Ids are minted by the service.

create table shares (
    share_id uuid primary key,
    sender_login text not null,
    sender_user_id uuid not null,
    sender_name text not null,
    facility_id uuid not null,               -- the sending facility, which owns the cases
    time_zone text not null,
    reason text not null,                    -- for the sender, the facility's administrators and auditors only
    message text not null,
    language text not null check (language in ('en', 'nl', 'fr', 'de')),
    urgent boolean not null,
    rights text not null check (rights in ('read_report', 'write_report')),
    allow_further_sharing boolean not null,
    parent_bucket_id uuid,                   -- the bucket that is shared on; its end is the end of this
    shared_at timestamptz not null
);
create index shares_by_sender on shares (sender_login, share_id);
create index shares_by_facility on shares (facility_id, share_id);
create index shares_by_parent on shares (parent_bucket_id) where parent_bucket_id is not null;

create table share_cases (
    share_id uuid references shares on delete cascade,
    case_id uuid,
    position smallint not null,
    primary key (share_id, case_id)
);
create index share_cases_by_case on share_cases (case_id);

-- One row for each recipient of a share. Whoever changes it locks it, and those it came from first.
create table buckets (
    bucket_id uuid primary key,
    share_id uuid not null references shares on delete cascade,
    position smallint not null,
    recipient_login text not null,
    recipient_user_id uuid not null,
    two_factor boolean not null,
    send_mail boolean not null,
    link_digest bytea not null unique,       -- SHA-256 of the link; the link itself is stored nowhere
    state text not null check (state in ('pending', 'active', 'blocked', 'expired', 'revoked')),
    version bigint not null,                 -- grows with state and end
    accepted_version bigint not null,        -- what access has accepted; behind `version`: it is told again
    ends_at timestamptz,                     -- null: never
    wrong_codes smallint not null default 0, -- in succession
    opened_at timestamptz,                   -- first
    unique (share_id, recipient_login)
);
alter table shares add foreign key (parent_bucket_id) references buckets;
create index buckets_by_recipient on buckets (recipient_login, bucket_id) where state in ('active', 'blocked');
create index buckets_blocked on buckets (share_id) where state = 'blocked';
create index buckets_pending on buckets (bucket_id) where state = 'pending';
create index buckets_untold on buckets (bucket_id) where accepted_version < version and state <> 'pending';
create index buckets_by_end on buckets (ends_at) where state in ('active', 'blocked');

create table policies (
    facility_id uuid primary key,
    default_days integer not null,           -- 0: one month
    maximum_days integer not null,           -- 0: none
    unlimited_allowed boolean not null,
    further_sharing_allowed boolean not null
);

-- What a sender chose in his last share.
create table preferences (
    login text primary key,
    two_factor boolean not null,
    send_mail boolean not null
);

-- Deleted cases, kept for good: nothing is saved about them again.
create table tombstones (
    case_id uuid primary key,
    deleted_at timestamptz not null
);
