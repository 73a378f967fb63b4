-- Parts of a study (docs/decisions/0016-parts.md): what came under one patient identity and with one value of each
-- mapping tag. Numbers from 1,000,001. A smaller number is the ordinal of a series: what the version before indexed
-- names no part, and of that a series is one.
alter table instances add column part integer;
alter table studies
    add column by_parts boolean not null default false,  -- whether what the version before left is kept as parts
    add column series_in_parts integer not null default 0;  -- rows of part_series

-- DICOM keyword -> text, as received. Two that differ in anything are two.
create table identities (
    study_id uuid not null,
    number integer not null,
    identity jsonb not null,
    primary key (study_id, number)
);

-- What parts say of their study: DICOM keyword -> text.
create table attribute_sets (
    study_id uuid not null,
    number integer not null,
    attributes jsonb not null,
    primary key (study_id, number)
);

create table parts (
    study_id uuid not null,
    number integer not null,
    digest bytea,  -- of identity and mapping values; null: a series of the version before
    identity integer not null,  -- 0: one that was not kept
    attribute_set integer not null,  -- 0: none was kept
    mapping jsonb,  -- DICOM keyword -> values; null: so many parts that this one stands for others, which differ
    primary key (study_id, number),
    unique (study_id, digest)
);

-- In which series a part has instances, and what these say of the modality.
create table part_series (
    study_id uuid not null,
    part integer not null,
    series integer not null,
    modality text not null,
    primary key (study_id, part, series)
);

-- The next ordinal, and the values of one series, at one look however many there are.
create index series_by_ordinal on series (study_id, ordinal);
create index mapping_values_of_series on mapping_values (study_id, series_instance_uid, keyword);

-- Indexes one durable instance; decides new, duplicate or conflict, whatever its patient (R1, R4, A26, A27, SEC-2),
-- and files a new one in its part. In place of `receive_instance_of_live_gateway` and what that calls.
-- Without a description: this association has described the series and the part already. Should the index know no
-- such part, the verdict is 'undescribed', and nothing is done.
create function index_instance(
    p_study_id uuid, p_create boolean, p_facility_id uuid, p_study_instance_uid text,
    p_gateway_id uuid, p_calling_ae_title text, p_series_instance_uid text, p_sop_instance_uid text,
    p_sop_class_uid text, p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid, p_entry_offset bigint,
    p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint, p_digest bytea, p_description jsonb,
    p_now timestamptz, p_begun_at timestamptz, out verdict text, out live_study_id uuid
) language plpgsql as $$
declare
    v_stored bytea;
    v_part integer;
    v_created boolean := false;
begin
    -- Whoever ends the gateway waits for this row, or this row finds the gateway revoked.
    perform pg_advisory_xact_lock_shared(gateway_lock_class(), hashtext(p_gateway_id::text));
    if not exists (select from gateways g where g.gateway_id = p_gateway_id and g.revoked_at is null) then
        verdict := 'revoked';
        return;
    end if;

    select s.study_id into live_study_id from studies s
        where s.receiving_facility_id = p_facility_id and s.study_instance_uid = p_study_instance_uid;
    if not found then
        if not p_create then
            verdict := 'absent';
            return;
        end if;
        insert into studies (study_id, receiving_facility_id, study_instance_uid, gateway_id, calling_ae_title,
                             received_at, version, attributes, by_parts)
            values (p_study_id, p_facility_id, p_study_instance_uid, p_gateway_id, p_calling_ae_title, p_now, 1,
                    '{}', true)
            on conflict (receiving_facility_id, study_instance_uid) do nothing;
        v_created := found;
        select s.study_id into live_study_id from studies s
            where s.receiving_facility_id = p_facility_id and s.study_instance_uid = p_study_instance_uid;
    end if;
    if v_created or live_study_id is distinct from p_study_id then
        verdict := case
            when deleted_since(p_facility_id, p_study_instance_uid, p_begun_at) then 'deleted'
            -- The StudyId of a purged study is never used again: the sender comes again, and gets another.
            when live_study_id is null or exists (select from tombstones t where t.study_id = p_study_id)
                then 'purged'
            when not v_created then 'other'
        end;
        if verdict is not null then
            if v_created then
                delete from studies s where s.study_id = p_study_id;
            end if;
            return;
        end if;
    end if;

    select p.number into v_part from parts p where p.study_id = p_study_id and p.digest = p_digest;
    if v_part is null and p_description is null then
        if v_created then
            delete from studies s where s.study_id = p_study_id;
        end if;
        verdict := 'undescribed';
        return;
    end if;
    insert into instances (study_id, sop_instance_uid, series_instance_uid, sop_class_uid, transfer_syntax_uid,
                           sha256, pack_id, entry_offset, prefix_length, data_set_length, received_at, part)
        values (p_study_id, p_sop_instance_uid, p_series_instance_uid, p_sop_class_uid, p_transfer_syntax_uid,
                p_sha256, p_pack_id, p_entry_offset, p_prefix_length, p_data_set_length, p_now, v_part)
        on conflict do nothing;
    if not found then
        select i.sha256 into v_stored from instances i
            where i.study_id = p_study_id and i.sop_instance_uid = p_sop_instance_uid;
        verdict := case when v_stored = p_sha256 then 'duplicate' else 'conflict' end;
        return;
    end if;
    if p_description is not null then
        -- After the instance: a duplicate makes no part.
        if v_part is null then
            update instances i
                set part = describe_part(p_study_id, p_series_instance_uid, p_digest, p_description)
                where i.study_id = p_study_id and i.sop_instance_uid = p_sop_instance_uid;
        else
            perform describe_part(p_study_id, p_series_instance_uid, p_digest, p_description);
        end if;
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
    verdict := case when v_created then 'first' else 'new' end;
end
$$;

-- Adds what an instance tells of its study, series and part to what is known, and answers the part. The first
-- non-empty value wins. Each look is by an index: it costs the same in the first series and in the last.
-- p_description: `study`, `series`, `mapping`, `identity` by DICOM keyword, and `most`, what is kept of each.
create function describe_part(
    p_study_id uuid, p_series_instance_uid text, p_digest bytea, p_description jsonb
) returns integer language plpgsql as $$
declare
    v_most constant jsonb := p_description -> 'most';
    v_modality constant text := coalesce(p_description -> 'series' ->> 'Modality', '');
    v_study studies;
    v_part parts;
    v_series integer;
    v_number integer;
    v_digest bytea := p_digest;
    v_identity integer;
    v_known jsonb;
    v_told jsonb;
begin
    -- The lock puts what concurrent associations tell into one order.
    select * into v_study from studies s where s.study_id = p_study_id for no key update;
    if not found then
        raise exception 'study % was purged', p_study_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    if not v_study.by_parts then
        perform keep_series_as_parts(p_study_id);
    end if;
    v_series := describe_series_at_once(v_study, p_series_instance_uid, p_description);

    select * into v_part from parts p where p.study_id = p_study_id and p.digest = p_digest;
    if not found then
        select i.number into v_identity from identities i
            where i.study_id = p_study_id and i.identity = p_description -> 'identity';
        if not found then
            insert into identities
                select p_study_id, count(*) + 1, p_description -> 'identity'
                    from identities i where i.study_id = p_study_id
                    having count(*) < (v_most ->> 'identities')::int
                returning number into v_identity;
        end if;
        v_identity := coalesce(v_identity, 0);
        select greatest(max(p.number), 1000000) + 1 into v_number from parts p where p.study_id = p_study_id;
        if v_number > 1000000 + (v_most ->> 'parts')::int then
            -- Shorter than any digest: the one part that stands for all further ones of the identity.
            v_digest := int4send(v_identity);
            select * into v_part from parts p where p.study_id = p_study_id and p.digest = v_digest;
        end if;
        if v_part.number is null then
            insert into parts values (
                p_study_id, v_number, v_digest, v_identity, 0,
                case when v_digest = p_digest then (
                    select coalesce(jsonb_object_agg(m.key, jsonb_build_array(m.value)), '{}')
                    from jsonb_each(p_description -> 'mapping') m)
                end)
                returning * into v_part;
        end if;
    end if;

    select a.attributes into v_known from attribute_sets a
        where a.study_id = p_study_id and a.number = v_part.attribute_set;
    v_known := coalesce(v_known, '{}');
    v_told := (p_description -> 'study') || v_known;
    if v_told <> v_known then
        select a.number into v_number from attribute_sets a
            where a.study_id = p_study_id and a.attributes = v_told;
        if not found then
            insert into attribute_sets
                select p_study_id, count(*) + 1, v_told from attribute_sets a where a.study_id = p_study_id
                    having count(*) < (v_most ->> 'attribute_sets')::int
                returning number into v_number;
        end if;
        update parts p set attribute_set = v_number
            where p.study_id = p_study_id and p.number = v_part.number and v_number is not null;
    end if;

    update part_series s set modality = v_modality
        where s.study_id = p_study_id and s.part = v_part.number and s.series = v_series and s.modality = ''
          and v_modality <> '';
    if not exists (select from part_series s
                   where s.study_id = p_study_id and s.part = v_part.number and s.series = v_series) then
        update studies s set series_in_parts = s.series_in_parts + 1
            where s.study_id = p_study_id and s.series_in_parts < (v_most ->> 'series_in_parts')::int;
        if found then
            insert into part_series values (p_study_id, v_part.number, v_series, v_modality);
        end if;
    end if;
    return v_part.number;
end
$$;

-- As `describe_series`, for the version before, and it answers the ordinal. Whoever calls holds the study's row.
create function describe_series_at_once(p_study studies, p_series_instance_uid text, p_description jsonb)
returns integer language plpgsql as $$
declare
    v_ordinal integer;
    v_told record;
begin
    update studies s set attributes = (p_description -> 'study') || s.attributes
        where s.study_id = p_study.study_id
          and not p_study.attributes ?& array(select jsonb_object_keys(p_description -> 'study'));
    select s.ordinal into v_ordinal from series s
        where s.study_id = p_study.study_id and s.series_instance_uid = p_series_instance_uid;
    if found then
        update series s set attributes = (p_description -> 'series') || s.attributes
            where s.study_id = p_study.study_id and s.series_instance_uid = p_series_instance_uid
              and not s.attributes ?& array(select jsonb_object_keys(p_description -> 'series'));
    else
        insert into series
            select p_study.study_id, p_series_instance_uid, coalesce(max(s.ordinal), 0) + 1,
                   p_description -> 'series'
                from series s where s.study_id = p_study.study_id
            returning ordinal into v_ordinal;
    end if;
    for v_told in select key, value from jsonb_each_text(p_description -> 'mapping') order by key loop
        insert into mapping_values
            select p_study.study_id,
                   (select coalesce(max(m.ordinal), 0) + 1 from mapping_values m
                    where m.study_id = p_study.study_id),
                   p_series_instance_uid, v_told.key, v_told.value
                from mapping_values m
                where m.study_id = p_study.study_id and m.series_instance_uid = p_series_instance_uid
                  and m.keyword = v_told.key
                having count(*) < (p_description -> 'most' ->> 'mapping_values')::int
                   and not coalesce(bool_or(m.value = v_told.value), false);
    end loop;
    return v_ordinal;
end
$$;

-- What the version before received becomes parts, as it is now: each series one, all under one identity. From here
-- on what comes later changes nothing of it.
create function keep_series_as_parts(p_study_id uuid) returns void language plpgsql as $$
begin
    insert into identities
        select s.study_id, 1, (
            select coalesce(jsonb_object_agg(a.key, a.value), '{}') from jsonb_each(s.attributes) a
            where a.key in ('PatientID', 'IssuerOfPatientID', 'PatientName', 'PatientBirthDate', 'PatientSex'))
        from studies s where s.study_id = p_study_id;
    insert into attribute_sets select s.study_id, 1, s.attributes from studies s where s.study_id = p_study_id;
    insert into parts
        select s.study_id, s.ordinal, null, 1, 1, coalesce(m.mapping, '{}')
        from series s left join (
            select series_instance_uid, jsonb_object_agg(keyword, told) as mapping
            from (select series_instance_uid, keyword, jsonb_agg(value order by ordinal) as told
                  from mapping_values where study_id = p_study_id group by 1, 2) as values_of_tag
            group by 1) as m using (series_instance_uid)
        where s.study_id = p_study_id;
    insert into part_series
        select s.study_id, s.ordinal, s.ordinal, coalesce(s.attributes ->> 'Modality', '')
        from series s where s.study_id = p_study_id;
    update studies s set by_parts = true,
        series_in_parts = (select count(*) from part_series p where p.study_id = p_study_id)
        where s.study_id = p_study_id;
end
$$;
