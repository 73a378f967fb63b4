-- Moves, of which access is asked first; and rule texts that differ in runs of blanks only.

-- `moved_by_hand`: a person has moved the case once, so that it never moves by its mapping value again. With it the
-- reason `no_rule` means that a person moved the case back to its hub. `last_move_id`: what access began it as.
alter table placements
    add column moved_by_hand boolean not null default false,
    add column last_move_id uuid;

-- What became of a move that access has begun. Whoever comes first decides: routing, which makes it, or access, which
-- asks after a while. One that was not made then is never made.
create table moves (
    move_id uuid primary key,
    made boolean not null,
    ended_at timestamptz not null
);

-- What a mapping value is compared with: `text_key` with each run of blanks as one. It is not unique, for the version
-- before tells such texts apart.
alter table endpoint_rules
    add column match_key text generated always as (regexp_replace(text_key, ' +', ' ', 'g')) stored;
create index endpoint_rules_by_match on endpoint_rules (hub_facility_id, match_key);
