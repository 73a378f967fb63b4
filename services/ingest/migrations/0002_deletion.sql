-- The purge records (A60): one for each wish to delete a case. A wish that access refused, or never heard of,
-- is gone again; the others stay for good.
create table deletions (
    deletion_id uuid primary key,
    case_id uuid not null,
    facility_id uuid,
    deleted_by text not null,
    asked_at timestamptz not null,
    begun_at timestamptz,
    closed_at timestamptz,
    revision text not null default '',  -- of sight, after the case was hidden
    version bigint not null default 0,  -- how often the deletion was told
    told_at timestamptz
);
create unique index deletions_of_user on deletions (case_id, deleted_by);
create unique index deletions_of_case on deletions (case_id) where begun_at is not null;
create index deletions_open on deletions (deletion_id) where closed_at is null;

-- Who has confirmed that he keeps nothing of the case any more.
create table confirmations (
    deletion_id uuid not null references deletions,
    by text not null,
    confirmed_at timestamptz not null,
    primary key (deletion_id, by)
);

-- Files of purged studies that are still to be unlinked: a pack, or a quarantined one.
create table doomed_files (
    deletion_id uuid not null references deletions,
    pack_id uuid,
    sha256 bytea,
    check (num_nonnulls(pack_id, sha256) = 1)
);
create index doomed_files_of_deletion on doomed_files (deletion_id);

-- Purged studies (A26). The UID is forgotten when no transfer can be so old any more.
create table tombstones (
    study_id uuid primary key,
    receiving_facility_id uuid not null,
    study_instance_uid text,
    deleted_at timestamptz not null,
    deletion_id uuid
);
create index tombstones_of_study on tombstones (receiving_facility_id, study_instance_uid, deleted_at);

create index quarantined_of_study on quarantined (study_id);

-- Whether a transfer that began then was overtaken by a deletion of its study (A26).
create function deleted_since(p_facility_id uuid, p_study_instance_uid text, p_begun_at timestamptz)
returns boolean language sql stable as $$
    select exists (select from tombstones t
                   where t.receiving_facility_id = p_facility_id and t.study_instance_uid = p_study_instance_uid
                     and t.deleted_at >= p_begun_at)
$$;

-- As in 0001, and beside that nothing is committed into a purged study. Who sends into the study that is
-- live was asked about tombstones when he opened it; they are looked at again only where it is another.
drop function receive_instance;
create function receive_instance(
    p_study_id uuid, p_create boolean, p_facility_id uuid, p_study_instance_uid text,
    p_gateway_id uuid, p_calling_ae_title text, p_series_instance_uid text, p_sop_instance_uid text,
    p_sop_class_uid text, p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid, p_entry_offset bigint,
    p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint, p_description jsonb,
    p_now timestamptz, p_begun_at timestamptz, out verdict text, out live_study_id uuid
) language plpgsql as $$
declare
    stored bytea;
    created boolean := false;
begin
    select s.study_id into live_study_id from studies s
        where s.receiving_facility_id = p_facility_id and s.study_instance_uid = p_study_instance_uid;
    if not found then
        if not p_create then
            verdict := 'absent';
            return;
        end if;
        insert into studies values (p_study_id, p_facility_id, p_study_instance_uid, p_gateway_id,
                                    p_calling_ae_title, p_now, null, 1, '{}')
            on conflict (receiving_facility_id, study_instance_uid) do nothing;
        created := found;
        select s.study_id into live_study_id from studies s
            where s.receiving_facility_id = p_facility_id and s.study_instance_uid = p_study_instance_uid;
    end if;
    if created or live_study_id is distinct from p_study_id then
        verdict := case
            when deleted_since(p_facility_id, p_study_instance_uid, p_begun_at) then 'deleted'
            -- The StudyId of a purged study is never used again: the sender comes again, and gets another.
            when live_study_id is null or exists (select from tombstones t where t.study_id = p_study_id)
                then 'purged'
            when not created then 'other'
        end;
        if verdict is not null then
            if created then
                delete from studies s where s.study_id = p_study_id;
            end if;
            return;
        end if;
    end if;

    insert into instances values (p_study_id, p_sop_instance_uid, p_series_instance_uid, p_sop_class_uid,
                                  p_transfer_syntax_uid, p_sha256, p_pack_id, p_entry_offset,
                                  p_prefix_length, p_data_set_length, p_now)
        on conflict do nothing;
    if not found then
        select i.sha256 into stored from instances i
            where i.study_id = p_study_id and i.sop_instance_uid = p_sop_instance_uid;
        verdict := case when stored = p_sha256 then 'duplicate' else 'conflict' end;
        return;
    end if;

    if p_description is not null then
        perform describe_series(p_study_id, p_series_instance_uid, p_description);
    end if;
    -- A purge takes the study's packs before its instances: whoever comes later finds the pack sealed.
    insert into packs values (p_pack_id, p_study_id, p_entry_end, null)
        on conflict (pack_id) do update set committed_end = excluded.committed_end
        where packs.sealed_at is null;
    if not found then
        raise exception 'pack % is sealed', p_pack_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    if p_entry_offset = 0 then
        -- Also where it is null: the row lock keeps `settle` from overlooking this pack. A purge does not
        -- know of this pack yet, but it holds or has taken the study's row.
        update studies s set settled_at = null where s.study_id = p_study_id;
        if not found then
            raise exception 'study % was purged', p_study_id using errcode = 'object_not_in_prerequisite_state';
        end if;
    end if;
    verdict := case when created then 'first' else 'new' end;
end
$$;

-- As in 0001, but a study that a purge has taken meanwhile is not described.
create or replace function describe_series(p_study_id uuid, p_series_instance_uid text, p_description jsonb)
returns void language plpgsql as $$
declare
    told record;
begin
    -- The lock puts series and mapping values of concurrent associations into one order.
    perform 1 from studies s where s.study_id = p_study_id for no key update;
    if not found then
        raise exception 'study % was purged', p_study_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    update studies s set attributes = (p_description -> 'study') || s.attributes
        where s.study_id = p_study_id
          and not s.attributes ?& array(select jsonb_object_keys(p_description -> 'study'));
    insert into series
        select p_study_id, p_series_instance_uid, count(*) + 1, p_description -> 'series'
            from series s where s.study_id = p_study_id
        on conflict (study_id, series_instance_uid) do update
            set attributes = excluded.attributes || series.attributes
            where not series.attributes ?& array(select jsonb_object_keys(excluded.attributes));
    for told in select key, value from jsonb_each_text(p_description -> 'mapping') order by key loop
        insert into mapping_values
            select p_study_id, coalesce(max(m.ordinal), 0) + 1, p_series_instance_uid, told.key, told.value
                from mapping_values m where m.study_id = p_study_id
                having count(*) filter (where m.series_instance_uid = p_series_instance_uid
                                          and m.keyword = told.key) < (p_description ->> 'limit')::int
                   and not coalesce(bool_or(m.series_instance_uid = p_series_instance_uid
                                            and m.keyword = told.key and m.value = told.value), false);
    end loop;
end
$$;
