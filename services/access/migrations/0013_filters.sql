-- Filters: what the index keeps of a case so that a filter can ask for it, and the filters themselves.

-- As received; empty: absent, or not told yet.
alter table cases
    add column dicom_study_id text not null default '',  -- Study ID (0020,0010)
    add column issuer_of_patient_id text not null default '',
    add column patient_age text not null default '',
    add column patient_institution_residence text not null default '',
    add column requesting_physician text not null default '',
    add column timezone_offset_from_utc text not null default '',
    add column physicians_of_record text[] not null default '{}',
    add column institution_names text[] not null default '{}',
    add column body_parts text[] not null default '{}',
    add column calling_ae_title text not null default '',
    add column gateway_id uuid,
    add column last_received_at timestamptz;

-- Derived by Python functions. `derived` says by which state of these functions; less than theirs, or another time
-- zone of the facility: to be derived again. Null: absent, malformed, or not derived yet.
alter table cases
    add column derived integer not null default 0,
    add column study_day date,
    add column study_time_of_day time,
    add column study_at timestamptz,
    add column birth_day date,
    add column age_years integer,
    add column age_months integer,
    add column age_weeks integer,
    add column age_days integer,
    -- text -> its forms [upper, lower, folded, plain], of each text of the case that is not of ASCII alone.
    add column text_forms jsonb,
    -- The plain forms of all texts, each on a line: what is contained in any form of one is contained here, plain.
    add column plain_text text;

-- What follows the reading, once for each side, and as it was when a live lock began (A59, A64).
alter table cases
    add column assignee_id uuid references users,
    add column assigned_by text not null default '',
    add column assigned_at timestamptz,
    add column priority smallint not null default 0 check (priority between 0 and 2),
    add column status_group text,
    add column status_facility text,
    add column reported_types_group text[] not null default '{}',
    add column reported_types_facility text[] not null default '{}',
    add column locked_by text not null default '',
    add column locked_until timestamptz,
    add column status_at_lock text,
    add column reported_types_at_lock text[] not null default '{}';

-- What reporting tells beside: the draft that is newer than the last public report, and how the reading stood when the
-- lock began. Of the group's row only.
alter table readings
    add column draft text not null default 'none' check (draft in ('none', 'dictated', 'transcribed')),
    add column state_at_lock text,
    add column draft_at_lock text,
    add column read_types_at_lock text[];

-- The filter of a user: what the form held, and the expression with users and facilities bound to their ids. One that
-- was taken away is a row with neither, so that no version comes twice.
create table user_filters (
    user_id uuid primary key references users,
    form jsonb,
    expression text not null,
    historical text not null check (historical in ('off', 'earlier', 'all')),
    version bigint not null,
    changed_by text not null,
    changed_at timestamptz not null
);
