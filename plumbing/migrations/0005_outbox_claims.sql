-- A relay claims rows, publishes them while it holds no connection, and marks them. If it dies in between,
-- its claim ends soon after. The version before claims by row locks, and does not look at this.
alter table outbox add column claimed_until timestamptz;
