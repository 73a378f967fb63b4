-- Whose unsigned text waits, and how a reading stood when its lock began. `whole_version` is the version with which
-- these columns were written; where `version` is another, the version before has written the row since, and they say
-- nothing. Whoever keeps what was answered of a drafted case before hears of it anew.
alter table readings
    add column whole_version bigint,
    add column draft text,
    add column at_lock_draft text,
    add column at_lock_reopened boolean,
    add column at_lock_read_types text[];
update readings set version = version + 1 where drafted;

-- A draft of the version before counts as dictated. Who a report is from, the version before knows by login only.
alter table drafts add column transcribed boolean not null default false;
alter table reports add column author_id uuid;
