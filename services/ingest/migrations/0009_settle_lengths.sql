-- How long studies received for a facility must be quiet before they are settled (A55). Without a row the setting
-- of the service counts.
create table settle_lengths (
    facility_id uuid primary key,
    settle_after interval not null,
    version bigint not null,
    saved_by text not null,
    saved_at timestamptz not null
);
