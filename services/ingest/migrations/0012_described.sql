-- Parts that were described when ingest kept fewer attributes are described again, from the objects in the packs
-- (docs/decisions/0026). Until then what was not kept is absent.
alter table parts
    -- The state of the table of attributes by which it was described; 0: of a version that knew no states.
    add column described integer not null default 0;

-- Adds what an instance of a part tells of its study to what is known: the first non-empty value wins. Answers
-- whether the part says more now. Whoever calls holds the study's row.
create function tell_of_study(p_part parts, p_told jsonb, p_most integer) returns boolean language plpgsql as $$
declare
    v_known jsonb;
    v_told jsonb;
    v_number integer;
begin
    select a.attributes into v_known from attribute_sets a
        where a.study_id = p_part.study_id and a.number = p_part.attribute_set;
    v_known := coalesce(v_known, '{}');
    v_told := p_told || v_known;
    if v_told = v_known then
        return false;
    end if;
    select a.number into v_number from attribute_sets a
        where a.study_id = p_part.study_id and a.attributes = v_told;
    if not found then
        insert into attribute_sets
            select p_part.study_id, count(*) + 1, v_told from attribute_sets a where a.study_id = p_part.study_id
                having count(*) < p_most
            returning number into v_number;
    end if;
    update parts p set attribute_set = v_number
        where p.study_id = p_part.study_id and p.number = p_part.number and v_number is not null;
    return v_number is not null;
end
$$;

-- As in 0007, and it notes by which state of the table of attributes a new part is described: `described` of
-- p_description, which the version before does not say.
create or replace function describe_part(
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
            insert into parts (study_id, number, digest, identity, attribute_set, mapping, described) values (
                p_study_id, v_number, v_digest, v_identity, 0,
                case when v_digest = p_digest then (
                    select coalesce(jsonb_object_agg(m.key, jsonb_build_array(m.value)), '{}')
                    from jsonb_each(p_description -> 'mapping') m)
                end,
                coalesce((p_description ->> 'described')::int, 0))
                returning * into v_part;
        end if;
    end if;

    perform tell_of_study(v_part, p_description -> 'study', (v_most ->> 'attribute_sets')::int);

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

-- Describes a part again, unless that has been done: p_told is what one of its instances tells of the study. Answers
-- whether the part says more now.
create function describe_part_again(
    p_study_id uuid, p_part integer, p_told jsonb, p_most integer, p_state integer
) returns boolean language plpgsql as $$
declare
    v_part parts;
    v_known jsonb;
begin
    -- A purge has taken the row, or waits for it.
    perform 1 from studies s where s.study_id = p_study_id for no key update;
    if not found then
        return false;
    end if;
    update parts p set described = p_state
        where p.study_id = p_study_id and p.number = p_part and p.described < p_state
        returning * into v_part;
    if not found then
        return false;
    end if;
    -- A set that no other part names grows where it is: of sets there are few.
    if not exists (select from parts p where p.study_id = p_study_id and p.attribute_set = v_part.attribute_set
                                         and p.number <> p_part) then
        select a.attributes into v_known from attribute_sets a
            where a.study_id = p_study_id and a.number = v_part.attribute_set;
        if found and not v_known ?& array(select jsonb_object_keys(p_told)) and not exists (
            select from attribute_sets a where a.study_id = p_study_id and a.attributes = p_told || v_known
        ) then
            update attribute_sets a set attributes = p_told || v_known
                where a.study_id = p_study_id and a.number = v_part.attribute_set;
            return true;
        end if;
    end if;
    return tell_of_study(v_part, p_told, p_most);
end
$$;
