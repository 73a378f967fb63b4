-- Parts of studies (docs/decisions/0016-parts.md): which belong to a case, which are held, what a person said of them.

alter table received_studies
    add column parts integer[],                 -- that belong; null: the version before placed it, by series
    add column parts_version bigint not null default 0,  -- ingest's version that was last applied by parts
    add column another_patient_held integer not null default 0,
    add column written_differently text[] not null default '{}';

-- A part that waits for a person. The version before purges a study without knowing this table.
create table held_parts (
    held_id uuid primary key,                   -- UUIDv7: the order in which it is listed
    study_id uuid not null references received_studies on delete cascade,
    part integer not null,
    identity integer not null,
    kind text not null,
    reason text not null,
    differs text[] not null,                    -- DICOM keywords, never values
    instance_count integer not null,
    case_id uuid not null references placements on delete cascade,
    facility_id uuid not null,                  -- where it waits: the facility that received the study
    held_at timestamptz not null,
    unique (study_id, part)
);
create index held_parts_by_facility on held_parts (facility_id, held_id);
create index held_parts_by_case on held_parts (case_id);

-- What of `held` still waits by itself: of a study that is placed by parts, no series.
create view waiting_studies as
    select held.* from held join received_studies study using (study_id)
    where held.kind <> 'series' or study.parts_version = 0;

-- What a person has said of a held part.
create table judged_parts (
    study_id uuid not null references received_studies on delete cascade,
    part integer not null,
    verdict text not null,
    identity integer not null,
    instance_count integer not null,            -- what it held then: should more come, it waits again
    judged_by text not null,
    judged_at timestamptz not null,
    primary key (study_id, part)
);
