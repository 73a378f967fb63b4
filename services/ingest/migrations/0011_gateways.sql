-- What is known of a gateway beside its identity. Null: nobody has told yet, or the version before wrote the row.
alter table gateways
    add column certificate_ends_at timestamptz,
    add column changed_by text,
    add column changed_at timestamptz;

-- The names of live gateways, folded. Gateways that share a name already keep it; the first of them holds it.
create table gateway_names (
    name text primary key,
    gateway_id uuid not null unique references gateways
);
insert into gateway_names (name, gateway_id)
select distinct on (lower(name)) lower(name), gateway_id from gateways
where revoked_at is null order by lower(name), gateway_id;

-- Every certificate so far was signed for 398 days.
update gateways set certificate_ends_at = enrolled_at + interval '398 days';

-- When a gateway was heard, when its last instance was stored, and what it told of itself last.
create table gateway_contacts (
    gateway_id uuid primary key references gateways,
    heard_at timestamptz not null,
    stored_at timestamptz,
    told_at timestamptz,
    software_version text,
    waiting_studies integer,
    waiting_since timestamptz
);
