-- Each gateway has an advisory lock of this class: shared by whoever indexes an instance of it, held alone by
-- whoever ends it. So a revocation waits for the instances that are being committed, and those that come
-- later find the gateway revoked (SEC-2).
create function gateway_lock_class() returns integer language sql immutable as $$ select 1 $$;

-- As `receive_instance`, for a gateway that is live when the row commits; of any other the verdict is 'revoked'.
create function receive_instance_of_live_gateway(
    p_study_id uuid, p_create boolean, p_facility_id uuid, p_study_instance_uid text,
    p_gateway_id uuid, p_calling_ae_title text, p_series_instance_uid text, p_sop_instance_uid text,
    p_sop_class_uid text, p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid, p_entry_offset bigint,
    p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint, p_description jsonb,
    p_now timestamptz, p_begun_at timestamptz, out verdict text, out live_study_id uuid
) language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(gateway_lock_class(), hashtext(p_gateway_id::text));
    if not exists (select from gateways g where g.gateway_id = p_gateway_id and g.revoked_at is null) then
        verdict := 'revoked';
        return;
    end if;
    select r.verdict, r.live_study_id into verdict, live_study_id from receive_instance(
        p_study_id, p_create, p_facility_id, p_study_instance_uid, p_gateway_id, p_calling_ae_title,
        p_series_instance_uid, p_sop_instance_uid, p_sop_class_uid, p_transfer_syntax_uid, p_sha256, p_pack_id,
        p_entry_offset, p_prefix_length, p_data_set_length, p_entry_end, p_description, p_now, p_begun_at) r;
end
$$;
