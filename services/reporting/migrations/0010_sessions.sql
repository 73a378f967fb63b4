-- In which login session the lock is held. `session_version` is the version of the reading with which it was written: where
-- `version` is another, the version before has written the row since, and the lock is held in every session of its holder.
alter table readings
    add column lock_session text,
    add column session_version bigint;

-- Texts that were refused while their author had another draft: they stay beside it, for the author alone, until the author
-- signs. A slot is a login session whose saving is refused again and again, or one refused report. The version before does
-- not know the table; what it purges takes these along.
create table kept_texts (
    case_id uuid references readings on delete cascade,
    author_login text,
    slot text,
    author_name text not null,
    text text not null,
    saved_at timestamptz not null,
    primary key (case_id, author_login, slot)
);
