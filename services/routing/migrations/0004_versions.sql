-- Who changed a facility last, so that nothing is overwritten unseen (A68). Both belong to `version`; empty and
-- null where the version before this one wrote it.
alter table facilities
    add column changed_by text not null default '',
    add column changed_at timestamptz;
