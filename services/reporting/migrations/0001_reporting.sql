-- The reading of cases: locks, drafts, reports; and which read types are active. Ids are minted by the service.

-- One row for each case of which reporting knows anything; whoever changes its reading locks it.
create table readings (
    case_id uuid primary key,
    version bigint not null default 0,       -- grows with what DescribeReading answers; 0: nothing to tell
    reopened boolean not null default false,
    holder_login text,                       -- the lock; it has ended once `lock_ends_at` has come
    holder_name text,
    lock_ends_at timestamptz,
    check ((holder_login is null) = (lock_ends_at is null) and (holder_login is null) = (holder_name is null))
);

-- What a holder whose lock was broken is told until he takes it again.
create table broken_locks (
    case_id uuid references readings,
    holder_login text,
    broken_by_name text not null,
    broken_at timestamptz not null,
    primary key (case_id, holder_login)
);

-- Unsigned texts: of each author his draft, and what a refused completion left for him alone.
create table drafts (
    case_id uuid references readings,
    author_login text,
    author_only boolean,
    author_name text not null,
    text text not null,
    saved_at timestamptz not null,
    primary key (case_id, author_login, author_only)
);

create table reports (
    report_id uuid primary key,
    case_id uuid not null references readings,
    read_type text not null check (read_type in ('preliminary', 'final', 'other', 'pre_read')),
    author_login text not null,
    author_name text not null,
    text text not null,
    completed_at timestamptz not null,
    revision text not null                   -- of sight, on which it was decided that he may (A3)
);
create index reports_by_case on reports (case_id);

create table addenda (
    addendum_id uuid primary key,
    report_id uuid not null references reports,
    author_login text not null,
    author_name text not null,
    text text not null,
    added_at timestamptz not null,
    revision text not null
);
create index addenda_by_report on addenda (report_id);

-- Where a read type was switched on or off; without a facility for the group, which has a switch for pre-read.
create table read_type_switches (
    facility_id uuid,
    read_type text not null check (read_type in ('preliminary', 'final', 'other', 'pre_read')),
    active boolean not null,
    unique nulls not distinct (facility_id, read_type),
    check (facility_id is not null or read_type = 'pre_read')
);
