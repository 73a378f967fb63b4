-- Facilities, endpoint rules, placements and what is held. Ids are minted by the service.

create table facilities (
    facility_id uuid primary key,
    name text not null,
    name_key text not null unique,           -- case-folded name
    time_zone text not null,
    model text not null check (model in ('standard', 'hub', 'endpoint')),
    mapping_tag text,
    version bigint not null,
    check ((model = 'hub') = (mapping_tag is not null))
);

create table endpoint_rules (
    rule_id uuid primary key,
    hub_facility_id uuid not null references facilities,
    endpoint_facility_id uuid not null references facilities,
    text text not null,
    text_key text not null,                  -- folded text: what a mapping value is compared with
    unique (hub_facility_id, text_key),
    check (hub_facility_id <> endpoint_facility_id)
);
create index endpoint_rules_by_endpoint on endpoint_rules (endpoint_facility_id);

create table placements (
    case_id uuid primary key,
    facility_id uuid not null references facilities,
    received_via_facility_id uuid references facilities,
    study_instance_uid text not null,
    reason text not null check (reason in ('direct', 'rule', 'no_value', 'no_rule', 'ambiguous', 'by_hand')),
    placed_at timestamptz not null,
    version bigint not null,
    unique (facility_id, study_instance_uid) -- one live case for a study at a facility
);

-- What routing knows of each received study; without a case it waits or is held.
create table received_studies (
    study_id uuid primary key,
    study_version bigint not null,           -- ingest's version that was last applied; 0: none yet
    case_id uuid references placements,
    all_series boolean not null default false,
    series_instance_uids text[] not null default '{}',
    mapping_tag text,                        -- the tag that decided, whatever the hub's is now
    mapping_value text                       -- the value that decided, folded; may be patient data
);
create index received_studies_by_case on received_studies (case_id);

-- What waits for a person.
create table held (
    held_id uuid primary key,                -- UUIDv7: the order in which it is listed
    study_id uuid not null references received_studies,
    kind text not null check (kind in ('undistributed', 'study', 'series')),
    series_instance_uid text,
    case_id uuid references placements,
    facility_id uuid not null,               -- where it waits; not a reference: it may be unknown here
    reason text not null,
    held_at timestamptz not null,
    unique nulls not distinct (study_id, kind, series_instance_uid)
);
create index held_by_facility on held (facility_id, held_id);
create index held_by_case on held (case_id);
