-- The chain of audit rows (SEC-15): a row is written without a number; soon after its commit the sealer gives
-- it the next number, and a seal over the row and the seal before it. Nothing else ever changes a row.
alter table audit_rows
    add column number bigint unique,
    add column seal   bytea,
    add constraint sealed_with_a_number check ((number is null) = (seal is null));
create index audit_rows_unsealed on audit_rows (id) where number is null;

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'audit rows are only ever added' using errcode = 'insufficient_privilege';
end
$$;

-- The conditions stand outside the function: an ordinary row is inserted as if there were no trigger.
create trigger only_the_sealer_seals before insert on audit_rows for each row
    when (new.number is not null or new.seal is not null)
    execute function refuse_audit_change();
create trigger sealed_once before update on audit_rows for each row
    when (
        old.number is not null
        or new.number is null
        or (new.id, new.at, new.actor, new.action, new.object, new.outcome, new.detail)
            is distinct from (old.id, old.at, old.actor, old.action, old.object, old.outcome, old.detail)
    )
    execute function refuse_audit_change();
create trigger never_deleted before delete on audit_rows for each row
    execute function refuse_audit_change();
create trigger never_emptied before truncate on audit_rows for each statement
    execute function refuse_audit_change();
