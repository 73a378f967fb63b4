-- Gateways: our software at a site. One certificate, one or more calling AE titles (A62).
create table gateways (
    gateway_id uuid primary key,
    name text not null,
    certificate_sha256 text not null unique,
    enrolled_at timestamptz not null,
    revoked_at timestamptz,
    version bigint not null
);

create table gateway_titles (
    gateway_id uuid not null references gateways,
    ae_title text not null,
    facility_id uuid not null,
    position integer not null,
    live boolean not null default true,
    primary key (gateway_id, ae_title)
);
create unique index gateway_titles_live on gateway_titles (ae_title) where live;

-- A gateway's queue entries, one row each; a newer entry of the same queue supersedes the older (A26).
create table transfers (
    transfer_id uuid primary key,
    gateway_id uuid not null references gateways,
    calling_ae_title text not null,
    study_instance_uid text not null,
    begun_at timestamptz not null,
    superseded_by uuid
);
create index transfers_queue on transfers (gateway_id, calling_ae_title, study_instance_uid) where superseded_by is null;

-- What was not accepted, and why (A22). Bounded by age and number.
create table refusals (
    refusal_id uuid primary key,
    refused_at timestamptz not null,
    kind text not null,
    reason text not null,
    certificate_sha256 text not null,
    calling_ae_title text not null,
    remote_address text not null,
    gateway_id uuid,
    sop_instance_uid text not null,
    status integer not null
);

-- Received studies. `attributes`: DICOM keyword -> text, the first non-empty value wins.
create table studies (
    study_id uuid primary key,
    receiving_facility_id uuid not null,
    study_instance_uid text not null,
    gateway_id uuid not null references gateways,
    calling_ae_title text not null,
    received_at timestamptz not null,
    settled_at timestamptz,
    version bigint not null,
    attributes jsonb not null,
    unique (receiving_facility_id, study_instance_uid)
);
create index studies_unsettled on studies (study_id) where settled_at is null;

create table series (
    study_id uuid not null references studies,
    series_instance_uid text not null,
    ordinal integer not null,
    attributes jsonb not null,
    primary key (study_id, series_instance_uid)
);

create table mapping_values (
    study_id uuid not null references studies,
    ordinal bigint not null,
    series_instance_uid text not null,
    keyword text not null,
    value text not null,
    primary key (study_id, ordinal)
);

-- Where the bytes are. No foreign keys: two checks fewer for each instance, and one function writes it.
create table instances (
    study_id uuid not null,
    sop_instance_uid text not null,
    series_instance_uid text not null,
    sop_class_uid text not null,
    transfer_syntax_uid text not null,
    sha256 bytea not null,
    pack_id uuid not null,
    entry_offset bigint not null,
    prefix_length integer not null,
    data_set_length bigint not null,
    received_at timestamptz not null,
    primary key (study_id, sop_instance_uid)
);

-- Packs: a row from the first commit on. A sealed pack takes no more instances; a row without a study
-- fences a pack in which nothing was committed. A study settles when all its packs are sealed (A55).
create table packs (
    pack_id uuid primary key,
    study_id uuid,
    committed_end bigint not null,
    sealed_at timestamptz
) with (fillfactor = 50);
create index packs_of_study on packs (study_id);
create index packs_open on packs (pack_id) where sealed_at is null;

-- Refused bytes, once per digest (R4, A27).
create table quarantined (
    sha256 bytea primary key,
    gateway_id uuid not null references gateways,
    study_id uuid not null,
    sop_class_uid text not null,
    sop_instance_uid text not null,
    transfer_syntax_uid text not null,
    file_length bigint not null,
    quarantined_at timestamptz not null
);
create index quarantined_of_gateway on quarantined (gateway_id);

-- Indexes one durable instance; decides new, duplicate or conflict (R1, R4).
-- A null description: this association has described the series already.
create function receive_instance(
    p_study_id uuid, p_create boolean, p_facility_id uuid, p_study_instance_uid text,
    p_gateway_id uuid, p_calling_ae_title text, p_series_instance_uid text, p_sop_instance_uid text,
    p_sop_class_uid text, p_transfer_syntax_uid text, p_sha256 bytea, p_pack_id uuid, p_entry_offset bigint,
    p_prefix_length integer, p_data_set_length bigint, p_entry_end bigint, p_description jsonb,
    p_now timestamptz, out verdict text, out live_study_id uuid
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
    if live_study_id <> p_study_id then
        verdict := 'other';
        return;
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
    insert into packs values (p_pack_id, p_study_id, p_entry_end, null)
        on conflict (pack_id) do update set committed_end = excluded.committed_end
        where packs.sealed_at is null;
    if not found then
        raise exception 'pack % is sealed', p_pack_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    if p_entry_offset = 0 then
        -- Also where it is null: the row lock keeps `settle` from overlooking this pack.
        update studies s set settled_at = null where s.study_id = p_study_id;
    end if;
    verdict := case when created then 'first' else 'new' end;
end
$$;

-- Adds what an instance tells of its study and series to what is known; the first non-empty value wins.
create function describe_series(p_study_id uuid, p_series_instance_uid text, p_description jsonb)
returns void language plpgsql as $$
declare
    told record;
begin
    -- The lock puts series and mapping values of concurrent associations into one order.
    perform 1 from studies s where s.study_id = p_study_id for no key update;
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
