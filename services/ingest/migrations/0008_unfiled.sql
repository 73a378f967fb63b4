-- Refused bytes that cannot be filed at all, for nobody can say of which study they are. A gateway of the version
-- before has acknowledged such, so that a modality may have deleted them: they wait for a person.
alter table quarantined alter column study_id drop not null;
alter table quarantined
    add column reason text,  -- null: a conflict that the version before kept
    add column receiving_facility_id uuid,
    add column study_instance_uid text;  -- as far as it can be read: with that study the bytes go
create index quarantined_by_age on quarantined (quarantined_at) where study_id is null;
create index quarantined_unfiled on quarantined (receiving_facility_id, study_instance_uid) where study_id is null;

-- Keeps refused bytes that are durable in a pack: once per digest, within the share of the gateway, and not for a
-- study that was purged, nor of a transfer that had begun before its study was purged. The row and the end of the pack are committed together, so that no byte is uncounted.
-- In place of `quarantine_instance`. Without a study the pack is one of its own.
create function quarantine_bytes(
    p_study_id uuid, p_facility_id uuid, p_study_instance_uid text, p_begun_at timestamptz, p_gateway_id uuid,
    p_sop_instance_uid text, p_sop_class_uid text, p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid, p_entry_offset bigint,
    p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint, p_now timestamptz, p_reason text,
    p_most_instances integer, p_most_bytes bigint
) returns boolean language plpgsql as $$
begin
    if p_study_id is not null then
        -- A purge of the study waits for this transaction, or has taken the study.
        perform 1 from studies s where s.study_id = p_study_id for key share;
        if not found then
            return false;
        end if;
    end if;
    if deleted_since(p_facility_id, p_study_instance_uid, p_begun_at) then
        return false;
    end if;
    -- One at a time for each gateway: else two of them find the last room.
    perform 1 from gateways g where g.gateway_id = p_gateway_id and g.revoked_at is null for no key update;
    if not found then
        return false;
    end if;
    if (
        select count(*) >= p_most_instances
            or coalesce(sum(q.file_length), 0) + p_prefix_length + p_data_set_length > p_most_bytes
        from quarantined q where q.gateway_id = p_gateway_id
    ) then
        return false;
    end if;
    insert into quarantined (
        sha256, gateway_id, study_id, sop_class_uid, sop_instance_uid, transfer_syntax_uid, file_length,
        quarantined_at, pack_id, entry_offset, prefix_length, reason, receiving_facility_id, study_instance_uid
    ) values (
        p_sha256, p_gateway_id, p_study_id, p_sop_class_uid, p_sop_instance_uid, p_transfer_syntax_uid,
        p_prefix_length + p_data_set_length, p_now, p_pack_id, p_entry_offset, p_prefix_length, p_reason,
        p_facility_id, p_study_instance_uid
    ) on conflict do nothing;
    if not found then
        return false;
    end if;
    insert into packs values (p_pack_id, p_study_id, p_entry_end, null)
        on conflict (pack_id) do update set committed_end = excluded.committed_end
        where packs.sealed_at is null;
    if not found then
        raise exception 'pack % is sealed', p_pack_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    return true;
end
$$;

-- Whether somebody administers every facility of a gateway.
create function gateway_within_reach(p_gateway_id uuid, p_everywhere boolean, p_facility_ids uuid[])
returns boolean language sql stable as $$
    select p_everywhere or not exists (
        select from gateway_titles t where t.gateway_id = p_gateway_id and t.facility_id <> all(p_facility_ids))
$$;
