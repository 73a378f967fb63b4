-- Access: users and what they may, folders and grants, and the index of cases.

-- What access keeps of routing's facilities. Cases name facilities without a foreign key, for their facts
-- may come first.
create table facilities (
    facility_id uuid primary key,
    name text not null,
    time_zone text not null,
    version bigint not null
);

-- `version` grows with whatever a user is compiled from.
create table users (
    user_id uuid primary key,
    login text not null unique check (login = lower(login)),
    name text not null,
    role text not null,
    active boolean not null,
    home_facility_id uuid references facilities,
    version bigint not null
);
create index users_by_home on users (home_facility_id, login);

-- Facility null: everywhere.
create table permissions (
    user_id uuid not null references users,
    permission text not null,
    facility_id uuid references facilities,
    unique nulls not distinct (user_id, permission, facility_id)
);

-- One privilege for each pair (ACC-1); no row is no privileges. Level: 1 view, 2 draft, 3 report.
create table privileges (
    user_id uuid not null references users,
    facility_id uuid not null references facilities,
    level smallint not null check (level between 1 and 3),
    expires_on date check (expires_on is null or level = 3),
    read_types text[] not null,
    primary key (user_id, facility_id)
);
create index privileges_by_facility on privileges (facility_id);

create table folders (
    folder_id uuid primary key,
    name text not null,
    name_folded text not null unique collate "C"
);

create table folder_members (
    folder_id uuid not null references folders,
    user_id uuid not null references users,
    primary key (folder_id, user_id)
);
create index folder_members_by_user on folder_members (user_id);

-- The worklist. `received_at` never changes, so that lists sort by it and grants and folders may copy it.
-- `version` is access's own and grows with each change of the entry and of who sees it.
create table cases (
    case_id uuid primary key,
    facility_id uuid not null,
    received_at timestamptz not null,
    study_instance_uid text not null,
    undistributed boolean not null,
    placed_at timestamptz not null,
    placement_version bigint not null,
    patient_name text not null,
    patient_id text not null,
    patient_birth_date text not null,
    patient_sex text not null,
    study_date text not null,
    study_time text not null,
    study_description text not null,
    accession_number text not null,
    referring_physician_name text not null,
    modalities_in_study text[] not null,
    series_count integer not null,
    instance_count integer not null,
    study_status_id text not null,
    version bigint not null
);
create index cases_by_facility on cases (facility_id, received_at desc, case_id desc);

-- The received studies of a case. `series_instance_uids` null: every series belongs. `snapshot` is what
-- ingest last said of the study; null until it was heard. Rows may come before that of their case.
create table case_studies (
    case_id uuid not null,
    study_id uuid not null,
    series_instance_uids text[],
    version bigint,
    snapshot jsonb,
    primary key (case_id, study_id),
    check ((version is null) = (snapshot is null))
);
create index case_studies_by_study on case_studies (study_id);

create table case_grants (
    case_id uuid not null references cases on delete cascade,
    user_id uuid not null references users,
    received_at timestamptz not null,
    primary key (case_id, user_id)
);
create index case_grants_by_user on case_grants (user_id, received_at desc, case_id desc);

create table folder_cases (
    folder_id uuid not null references folders,
    case_id uuid not null references cases on delete cascade,
    received_at timestamptz not null,
    primary key (case_id, folder_id)
);
create index folder_cases_by_folder on folder_cases (folder_id, received_at desc, case_id desc);

-- Bumped last in each transaction that changes sight.
create table revision (
    only_row boolean primary key default true check (only_row),
    value bigint not null
);
insert into revision (value) values (1);
