-- The version before writes whether a case has settled and whose it is, and knows neither status nor assignee: then the
-- status is nobody's until it is derived again, and who was to read the case at its old facility is not to read it.
create function outdate_followed() returns trigger language plpgsql as $$
begin
    new.derived := 0;
    new.status_group := null;
    new.status_facility := null;
    new.status_at_lock := null;
    if new.facility_id is distinct from old.facility_id then
        new.assignee_id := null;
        new.assigned_by := '';
        new.assigned_at := null;
    end if;
    return new;
end
$$;
create trigger cases_outdate_followed before update on cases for each row  -- safe for 4476624: it refuses nothing, and sets only what that version does not know
    when (
        (new.derived_in is null or new.derived_in is not distinct from old.derived_in)
        and (new.facility_id, new.settled) is distinct from (old.facility_id, old.settled)
    )
    execute function outdate_followed();
