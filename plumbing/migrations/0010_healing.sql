-- What this service has made up for of its owners, kind by kind. See plumbing/healing.py.
create table healing (
    kind           text    primary key,
    heard_until    timestamptz,                    -- what its owner published before is known; the owner's clock
    due            boolean not null default true,  -- whether all versions are to be compared as soon as may be
    compared_after uuid,                           -- where a comparison goes on; null: none is under way
    compared_at    timestamptz,                    -- when the last one ended
    failed         integer not null default 0      -- what could not be healed since the last one began
);
