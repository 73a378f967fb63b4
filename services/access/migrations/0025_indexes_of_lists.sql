-- concurrently
-- Orders of lists, of all facilities, for whoever reads at most of them. Each holds every case: its condition is there
-- so that it serves only statements that say it, and is never taken for the cases of one facility.
create index concurrently if not exists cases_in_order_of_receipt on cases (received_at, case_id, facility_id)
    where priority >= 0;
create index concurrently if not exists cases_in_order_of_study on cases (study_order, case_id, facility_id)
    where priority >= 0;
create index concurrently if not exists cases_in_order_of_name on cases (patient_name_order, case_id, facility_id)
    where priority >= 0;
create index concurrently if not exists cases_in_order_of_priority on cases (priority, case_id, facility_id)
    where priority >= 0;
-- What is not read yet, of each side, in each order. What is locked counts for its holder as it was before.
create index concurrently if not exists cases_unread_by_group on cases (facility_id, received_at, case_id)
    where status_group <> 'READ' or locked_by <> '';
create index concurrently if not exists cases_unread_by_group_by_study on cases (facility_id, study_order, case_id)
    where status_group <> 'READ' or locked_by <> '';
create index concurrently if not exists cases_unread_by_group_by_name on cases (facility_id, patient_name_order, case_id)
    where status_group <> 'READ' or locked_by <> '';
create index concurrently if not exists cases_unread_by_group_by_priority on cases (facility_id, priority, case_id)
    where status_group <> 'READ' or locked_by <> '';
create index concurrently if not exists cases_unread_by_facility on cases (facility_id, received_at, case_id)
    where status_facility <> 'READ' or locked_by <> '';
create index concurrently if not exists cases_unread_by_facility_by_study on cases (facility_id, study_order, case_id)
    where status_facility <> 'READ' or locked_by <> '';
create index concurrently if not exists cases_unread_by_facility_by_name on cases (facility_id, patient_name_order, case_id)
    where status_facility <> 'READ' or locked_by <> '';
create index concurrently if not exists cases_unread_by_facility_by_priority on cases (facility_id, priority, case_id)
    where status_facility <> 'READ' or locked_by <> '';
-- What is assigned to somebody, in each order; `cases_by_assignee` is by receipt.
create index concurrently if not exists cases_by_assignee_by_study on cases (assignee_id, study_order, case_id)
    where assignee_id is not null;
create index concurrently if not exists cases_by_assignee_by_name on cases (assignee_id, patient_name_order, case_id)
    where assignee_id is not null;
create index concurrently if not exists cases_by_assignee_by_priority on cases (assignee_id, priority, case_id)
    where assignee_id is not null;
-- What grants, folders and shares show, in each order; by receipt they have theirs.
create index concurrently if not exists case_grants_by_study on case_grants (user_id, study_order, case_id);
create index concurrently if not exists case_grants_by_name on case_grants (user_id, patient_name_order, case_id);
create index concurrently if not exists case_grants_by_priority on case_grants (user_id, priority, case_id);
create index concurrently if not exists folder_cases_by_study on folder_cases (folder_id, study_order, case_id);
create index concurrently if not exists folder_cases_by_name on folder_cases (folder_id, patient_name_order, case_id);
create index concurrently if not exists folder_cases_by_priority on folder_cases (folder_id, priority, case_id);
create index concurrently if not exists bucket_cases_by_study on bucket_cases (bucket_id, study_order, case_id);
create index concurrently if not exists bucket_cases_by_name on bucket_cases (bucket_id, patient_name_order, case_id);
create index concurrently if not exists bucket_cases_by_priority on bucket_cases (bucket_id, priority, case_id);
