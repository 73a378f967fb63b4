-- When a gateway told that everything of a transfer has its answer, and how many instances of it were acknowledged
-- (A55). Null for one that has not ended, or that a gateway of the version before sent.
alter table transfers
    add column ended_at timestamptz,
    add column instances integer;
