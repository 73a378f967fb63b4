-- What changed in which transaction, for lists that tell what changes (WatchCases). Kept for an hour.

-- `id` is of a case of which a row changed, or something that shows through it: its reading, who is shown it; of a
-- facility that has another name; of a user who is compiled anew, or to whom something is shown. Whoever reads keeps the
-- snapshot of their last reading and asks for what was not visible in it: the number of a transaction says nothing of when
-- it is committed.
create table case_changes (
    changed_in xid8 not null,
    id uuid not null,
    changed_at timestamptz not null,
    primary key (changed_in, id)
);

-- What the transactions up to this one changed may be gone.
create table case_changes_gone (
    only_row boolean primary key default true check (only_row),
    up_to xid8 not null
);
insert into case_changes_gone (up_to) values ('0');

create function note_changes(ids uuid[]) returns void language sql as $$
    insert into case_changes (changed_in, id, changed_at)
    select pg_current_xact_id(), id, now() from unnest(ids) as changed (id) where id is not null
    on conflict do nothing
$$;

-- All or none: whoever writes holds some of these and waits for others, in either order.
do $$
begin
    loop
        begin
            lock table cases, readings, case_grants, folder_cases, buckets, bucket_cases, bucket_sessions, facilities, users
                in share row exclusive mode nowait;
            exit;
        exception when lock_not_available then
            perform pg_sleep(0.02);
        end;
    end loop;
end
$$;

-- Triggers, so that what the version before writes is noted too. Each notes what one row is about.
create function note_case() returns trigger language plpgsql as $$
begin
    perform note_changes(array[case tg_op when 'DELETE' then old.case_id else new.case_id end]);
    return null;
end
$$;
create trigger cases_note after insert or delete on cases for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    execute function note_case();
create trigger cases_note_update after update on cases for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    when (old is distinct from new) execute function note_case();
create trigger readings_note after insert or delete on readings for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    execute function note_case();
create trigger readings_note_update after update on readings for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    when (old is distinct from new) execute function note_case();
create trigger folder_cases_note after insert or update or delete on folder_cases for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    execute function note_case();

create function note_case_of_user() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        perform note_changes(array[old.case_id, old.user_id]);
    else
        perform note_changes(array[new.case_id, new.user_id]);
    end if;
    return null;
end
$$;
create trigger case_grants_note after insert or update or delete on case_grants for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    execute function note_case_of_user();
create trigger bucket_cases_note after insert or update or delete on bucket_cases for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    execute function note_case_of_user();

create function note_bucket() returns trigger language plpgsql as $$
begin
    perform note_changes(array(
        select h.case_id from bucket_cases h where h.bucket_id = new.bucket_id
        union select new.user_id
    ));
    return null;
end
$$;
create trigger buckets_note after update on buckets for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    when (old is distinct from new) execute function note_bucket();

create function note_cases_of_session() returns trigger language plpgsql as $$
begin
    perform note_changes(array(
        select h.case_id from bucket_cases h
        where h.bucket_id = case tg_op when 'DELETE' then old.bucket_id else new.bucket_id end
    ));
    return null;
end
$$;
create trigger bucket_sessions_note after insert or delete on bucket_sessions for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    execute function note_cases_of_session();

create function note_facility() returns trigger language plpgsql as $$
begin
    perform note_changes(array[new.facility_id]);
    return null;
end
$$;
create trigger facilities_note after insert or update of name on facilities for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    execute function note_facility();

create function note_user() returns trigger language plpgsql as $$
begin
    perform note_changes(array[new.user_id]);
    return null;
end
$$;
create trigger users_note after update on users for each row  -- safe for a1cb4d8: it refuses nothing, and writes only a table that that version does not know
    when (old.version is distinct from new.version) execute function note_user();
