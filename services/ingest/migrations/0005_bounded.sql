-- Refused bytes stay where they were received: as the last entry of a pack. A row without a pack is older: its
-- bytes are a file of the quarantine folder.
alter table quarantined
    add column pack_id uuid,
    add column entry_offset bigint,
    add column prefix_length integer;

-- Keeps refused bytes that are durable in a pack: once per digest, within the share of the gateway, and not for a
-- study that was purged. The row and the end of the pack are committed together, so that no byte is uncounted.
create function quarantine_instance(
    p_study_id uuid, p_gateway_id uuid, p_sop_instance_uid text, p_sop_class_uid text,
    p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid, p_entry_offset bigint,
    p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint, p_now timestamptz,
    p_most_instances integer, p_most_bytes bigint
) returns boolean language plpgsql as $$
begin
    -- A purge of the study waits for this transaction, or has taken the study.
    perform 1 from studies s where s.study_id = p_study_id for key share;
    if not found then
        return false;
    end if;
    -- One at a time for each gateway: else two of them find the last room.
    perform 1 from gateways g where g.gateway_id = p_gateway_id for no key update;
    if (
        select count(*) >= p_most_instances
            or coalesce(sum(q.file_length), 0) + p_prefix_length + p_data_set_length > p_most_bytes
        from quarantined q where q.gateway_id = p_gateway_id
    ) then
        return false;
    end if;
    insert into quarantined (
        sha256, gateway_id, study_id, sop_class_uid, sop_instance_uid, transfer_syntax_uid, file_length,
        quarantined_at, pack_id, entry_offset, prefix_length
    ) values (
        p_sha256, p_gateway_id, p_study_id, p_sop_class_uid, p_sop_instance_uid, p_transfer_syntax_uid,
        p_prefix_length + p_data_set_length, p_now, p_pack_id, p_entry_offset, p_prefix_length
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

-- Purged studies of which rows are left. The purge takes the study's row and ends its packs at once; the rest goes
-- in batches, each a transaction of its own. So the rest outlives the row that it referred to.
create table doomed_studies (
    study_id uuid primary key,
    deletion_id uuid not null references deletions
);
create index doomed_studies_of_deletion on doomed_studies (deletion_id);
alter table series drop constraint series_study_id_fkey;  -- safe for 4874741: it only keeps a study whose rows are left
alter table mapping_values drop constraint mapping_values_study_id_fkey;  -- safe for 4874741: it only keeps a study whose rows are left

create index packs_open_of_study on packs (study_id) where sealed_at is null;
create index doomed_files_by_pack on doomed_files (pack_id);
create index doomed_files_by_digest on doomed_files (sha256);

-- What is pruned, the oldest first.
create index transfers_by_age on transfers (begun_at);
create index transfers_of_gateway on transfers (gateway_id, begun_at);
create index refusals_by_age on refusals (refused_at);
create index tombstones_by_age on tombstones (deleted_at) where study_instance_uid is not null;
-- Fences. The end of a pack is in no index: each instance moves it.
create index packs_fences on packs (sealed_at) where study_id is null;
