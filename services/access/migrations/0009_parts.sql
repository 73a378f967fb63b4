-- Which parts of its studies belong to a case, and what ingest said of them by parts.

-- How many parts are held because they may show another patient. `parts_version` is the version of the placement
-- with which `parts` of its studies were told; null while the version before wrote all of the row, less than
-- `placement_version` once it wrote it again: then routing is heard again.
alter table cases
    add column another_patient_held integer not null default 0,
    add column parts_version bigint;

-- `parts` null: the version before wrote the row, and `series_instance_uids` says what belongs. `received` is what
-- ingest last said by parts, `received_version` its version. Whoever writes them sets `version` and `snapshot` to
-- null, so that a version before that is started again asks ingest for a snapshot that it can read.
alter table case_studies
    add column parts integer[],
    add column received_version bigint,
    add column received jsonb;
