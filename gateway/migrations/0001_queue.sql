-- The gateway's memory. Times are seconds since 1970 in UTC.
create table if not exists transfers (
    id text primary key,
    study_instance_uid text not null,
    calling_ae_title text not null,
    created_at real not null,
    state text not null check (state in ('waiting', 'sending', 'done', 'failed')),
    failures integer not null default 0,
    next_attempt_at real not null default 0,
    reason text not null default ''  -- of the last interruption, or why the whole transfer was refused
) strict;
create index if not exists transfers_open on transfers (state, next_attempt_at)
    where state in ('waiting', 'sending');
create index if not exists transfers_of_study on transfers (study_instance_uid, calling_ae_title);

create table if not exists items (
    number integer primary key,  -- in order of receipt
    transfer_id text not null references transfers,
    sop_instance_uid text not null,
    sha256 text not null,
    sop_class_uid text not null,
    transfer_syntax_uid text not null,
    received_at real not null,
    outcome text not null default 'waiting' check (outcome in ('waiting', 'acknowledged', 'refused')),
    answered_at real,
    status integer,  -- of the C-STORE response that was final
    comment text not null default '',
    unique (transfer_id, sop_instance_uid, sha256)
) strict;
create index if not exists items_waiting on items (transfer_id, number) where outcome = 'waiting';
create index if not exists items_refused on items (transfer_id) where outcome = 'refused';

create table if not exists audit_rows (
    number integer primary key,
    at real not null,
    action text not null,
    outcome text not null check (outcome in ('done', 'refused')),
    listener text not null,
    remote text not null,
    calling_ae_title text not null,
    called_ae_title text not null,
    reason text not null
) strict;
