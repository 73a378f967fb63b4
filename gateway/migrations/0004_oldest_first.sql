-- The oldest that waits is found without a look at the others.
create index if not exists transfers_by_age on transfers (created_at, id) where state = 'waiting';
