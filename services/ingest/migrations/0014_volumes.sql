-- Many processes of ingest, and room for what follows (docs/decisions/0036-volumes-and-writers.md). The version before
-- runs on with its own functions; what it writes names neither volume nor writer.

-- A volume is a directory of packs, on a disk of one pod or on a file system that several share. Whoever holds it lists
-- it, unlinks on it, and trims what a writer left that has ended.
create table volumes (
    volume_id uuid primary key,
    is_earlier boolean not null,  -- whether the version before wrote there
    made_at timestamptz not null,
    holder_id uuid,  -- the writer that holds it, while that lives
    forgotten_at timestamptz,  -- given up: its bytes are lost
    forgotten_by text
);

-- A writer is one start of one process. It lives while its lease runs, by the clock of this database.
create table writers (
    writer_id uuid primary key,
    volume_id uuid not null references volumes,
    address text not null,  -- where other processes ask it for packs
    began_at timestamptz not null,
    ends_at timestamptz not null,
    ended_at timestamptz  -- for good: nothing is committed into its packs any more
);

create function writer_lives(p_writer_id uuid) returns boolean language sql volatile as $$
    select exists (select from writers w
                   where w.writer_id = p_writer_id and w.ended_at is null and w.ends_at > clock_timestamp())
$$;

-- What the version before wrote names no volume: it had one directory, which is the first volume.
create function volume_of(p_volume_id uuid) returns uuid language sql stable as $$
    select coalesce(p_volume_id,
                    (select v.volume_id from volumes v order by v.is_earlier desc, v.made_at, v.volume_id limit 1))
$$;

-- The row of a pack is committed before its file exists.
alter table packs
    add column volume_id uuid,
    add column writer_id uuid,
    add column to_trim boolean not null default false;  -- whether the file may be longer than the row says
alter table doomed_files add column volume_id uuid;

alter table instances
    -- Bytes of the data set, inflated, before its first element of group 7FE0; and where the value of its pixel data
    -- begins. Null: not known, or there is none.
    add column head_length bigint,
    add column pixel_offset bigint,
    add column damaged_at timestamptz;  -- since when the bytes are known to be missing or wrong

-- A study comes from a gateway or from a user.
alter table studies
    alter column gateway_id drop not null,
    add column uploaded_by text,
    add column told_at timestamptz;  -- when its last change was told (A55)

-- The certificates of a gateway; several may be live. The first one stands in `gateways` too.
create table gateway_certificates (
    certificate_sha256 text primary key,
    gateway_id uuid not null references gateways,
    signed_at timestamptz not null,
    ends_at timestamptz
);
create index gateway_certificates_of_gateway on gateway_certificates (gateway_id);

-- As `index_instance`, for a pack whose row is there, is not sealed, and whose writer lives. And it takes a resend in
-- place of bytes that are known to be missing or damaged: the verdict is 'repaired' then.
create function file_instance(
    p_study_id uuid, p_create boolean, p_facility_id uuid, p_study_instance_uid text,
    p_gateway_id uuid, p_calling_ae_title text, p_series_instance_uid text, p_sop_instance_uid text,
    p_sop_class_uid text, p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid, p_entry_offset bigint,
    p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint, p_digest bytea, p_description jsonb,
    p_now timestamptz, p_begun_at timestamptz, p_head_length bigint, p_pixel_offset bigint,
    out verdict text, out live_study_id uuid
) language plpgsql as $$
declare
    v_stored instances;
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
                           sha256, pack_id, entry_offset, prefix_length, data_set_length, received_at, part,
                           head_length, pixel_offset)
        values (p_study_id, p_sop_instance_uid, p_series_instance_uid, p_sop_class_uid, p_transfer_syntax_uid,
                p_sha256, p_pack_id, p_entry_offset, p_prefix_length, p_data_set_length, p_now, v_part,
                p_head_length, p_pixel_offset)
        on conflict do nothing;
    if found then
        verdict := case when v_created then 'first' else 'new' end;
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
    else
        select * into v_stored from instances i
            where i.study_id = p_study_id and i.sop_instance_uid = p_sop_instance_uid;
        verdict := case when v_stored.sha256 = p_sha256 then 'duplicate' else 'conflict' end;
        if verdict = 'conflict' or v_stored.transfer_syntax_uid <> p_transfer_syntax_uid
                or not bytes_are_lost(v_stored) then
            return;
        end if;
        -- Of two that repair it at once the second finds it whole.
        update instances i set pack_id = p_pack_id, entry_offset = p_entry_offset, prefix_length = p_prefix_length,
                data_set_length = p_data_set_length, head_length = p_head_length, pixel_offset = p_pixel_offset,
                damaged_at = null
            where i.study_id = p_study_id and i.sop_instance_uid = p_sop_instance_uid
                and i.pack_id = v_stored.pack_id and i.entry_offset = v_stored.entry_offset;
        if not found then
            return;
        end if;
        verdict := 'repaired';
    end if;

    -- Sealing is the row. Whoever seals waits for this transaction, or this one finds the pack sealed. So does a purge:
    -- it takes the study's packs before its instances.
    update packs p set committed_end = p_entry_end, study_id = p_study_id
        where p.pack_id = p_pack_id and p.sealed_at is null and coalesce(p.study_id, p_study_id) = p_study_id
          and exists (select from writers w where w.writer_id = p.writer_id and w.ended_at is null
                                              and w.ends_at > clock_timestamp());
    if not found then
        raise exception 'pack % is sealed, or its writer has ended', p_pack_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if p_entry_offset = 0 then
        -- A purge does not know of this pack yet, but it holds or has taken the study's row. Also where `settled_at` is
        -- null: the row lock keeps `settle` from overlooking this pack. What is repaired was there: nothing new came.
        update studies s set settled_at = case when verdict = 'repaired' then s.settled_at end
            where s.study_id = p_study_id;
        if not found then
            raise exception 'study % was purged', p_study_id using errcode = 'object_not_in_prerequisite_state';
        end if;
    end if;
end
$$;

-- Whether the bytes of an instance are known to be missing or wrong.
create function bytes_are_lost(p_instance instances) returns boolean language sql stable as $$
    select p_instance.damaged_at is not null or exists (
        select from packs p join volumes v on v.volume_id = volume_of(p.volume_id)
        where p.pack_id = p_instance.pack_id and v.forgotten_at is not null)
$$;

-- As `quarantine_bytes`, for a pack whose row is there, is not sealed, and whose writer lives.
create function keep_refused_bytes(
    p_study_id uuid, p_facility_id uuid, p_study_instance_uid text, p_begun_at timestamptz, p_gateway_id uuid,
    p_sop_instance_uid text, p_sop_class_uid text, p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid,
    p_entry_offset bigint, p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint,
    p_now timestamptz, p_reason text, p_most_instances integer, p_most_bytes bigint
) returns boolean language plpgsql as $$
begin
    if not quarantine_bytes(
        p_study_id, p_facility_id, p_study_instance_uid, p_begun_at, p_gateway_id, p_sop_instance_uid,
        p_sop_class_uid, p_transfer_syntax_uid, p_sha256, p_pack_id, p_entry_offset, p_prefix_length,
        p_data_set_length, p_entry_end, p_now, p_reason, p_most_instances, p_most_bytes
    ) then
        return false;
    end if;
    update packs p set study_id = p_study_id
        where p.pack_id = p_pack_id and writer_lives(p.writer_id);
    if not found then
        raise exception 'the writer of pack % has ended', p_pack_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return true;
end
$$;
