-- How old a transfer is at least, whatever the wall clock says: `aged_s` seconds when the machine had been up
-- for `aged_uptime_s` in the boot `aged_boot`; `since_birth` if it was made in that boot. Null where the version
-- before this one made it.
alter table transfers add column aged_s real not null default 0;
alter table transfers add column aged_boot text;
alter table transfers add column aged_uptime_s real not null default 0;
alter table transfers add column since_birth integer not null default 0;

-- For how long a transfer has been done while the gateway ran: what retention goes by.
alter table transfers add column kept_s real not null default 0;

-- Null until somebody has looked at the file.
alter table items add column size_bytes integer;
create index items_of_digest on items (sha256);
create index items_without_size on items (sha256) where size_bytes is null;

-- `next_attempt_at` counts the seconds that the machine has been up, and each start of the gateway sets it
-- to 0: a step of the wall clock makes no pause longer.
