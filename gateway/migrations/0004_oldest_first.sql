-- The oldest that waits is found without a look at the others.
create index transfers_by_age on transfers (created_at, id) where state = 'waiting';
