-- Grants, folders and shares keep of a case what lists are ordered by, so that an index serves them in every order.
alter table case_grants
    add column study_order timestamp not null default '-infinity',
    add column patient_name_order text collate "C" not null default '',
    add column priority smallint not null default 0;
alter table folder_cases
    add column study_order timestamp not null default '-infinity',
    add column patient_name_order text collate "C" not null default '',
    add column priority smallint not null default 0;
alter table bucket_cases
    add column study_order timestamp not null default '-infinity',
    add column patient_name_order text collate "C" not null default '',
    add column priority smallint not null default 0;

-- Whoever shows a case copies this from it, and whoever changes it there changes the copies. Both lock the row of the
-- case first: else a copy could be made of what another transaction is changing, and that would not see the copy.
create function copy_order() returns trigger language plpgsql as $$
begin
    select c.study_order, c.patient_name_order, c.priority
        into new.study_order, new.patient_name_order, new.priority
        from cases c where c.case_id = new.case_id for no key update;
    return new;
end
$$;
create trigger case_grants_copy_order before insert on case_grants for each row execute function copy_order();  -- safe for a1cb4d8: it refuses nothing, and sets only what that version does not know
create trigger folder_cases_copy_order before insert on folder_cases for each row execute function copy_order();  -- safe for a1cb4d8: it refuses nothing, and sets only what that version does not know
create trigger bucket_cases_copy_order before insert on bucket_cases for each row execute function copy_order();  -- safe for a1cb4d8: it refuses nothing, and sets only what that version does not know

create function spread_order() returns trigger language plpgsql as $$
begin
    update case_grants set study_order = new.study_order, patient_name_order = new.patient_name_order,
        priority = new.priority where case_id = new.case_id;
    update folder_cases set study_order = new.study_order, patient_name_order = new.patient_name_order,
        priority = new.priority where case_id = new.case_id;
    update bucket_cases set study_order = new.study_order, patient_name_order = new.patient_name_order,
        priority = new.priority where case_id = new.case_id;
    return null;
end
$$;
create trigger cases_spread_order after update on cases for each row  -- safe for a1cb4d8: it refuses nothing, and sets only what that version does not know
    when (
        (new.study_order, new.patient_name_order, new.priority)
        is distinct from (old.study_order, old.patient_name_order, old.priority)
    )
    execute function spread_order();

-- What was shown before, in the transaction that made the triggers.
update case_grants s set study_order = c.study_order, patient_name_order = c.patient_name_order, priority = c.priority
    from cases c where c.case_id = s.case_id;
update folder_cases s set study_order = c.study_order, patient_name_order = c.patient_name_order, priority = c.priority
    from cases c where c.case_id = s.case_id;
update bucket_cases s set study_order = c.study_order, patient_name_order = c.patient_name_order, priority = c.priority
    from cases c where c.case_id = s.case_id;
