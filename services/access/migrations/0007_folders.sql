-- Who changed a folder last, and how many modalities of a case are shown.

-- `changed_by` and `changed_at` belong to `version`; empty and null where the version before this one wrote it.
alter table folders
    add column version bigint not null default 1,
    add column changed_by text not null default '',
    add column changed_at timestamptz;

-- `modalities_in_study` holds at most 32, in order; here is how many more there are.
alter table cases add column modalities_left_out integer not null default 0;
update cases
    set modalities_left_out = cardinality(modalities_in_study) - 32,
        modalities_in_study = modalities_in_study[1:32]
    where cardinality(modalities_in_study) > 32;
