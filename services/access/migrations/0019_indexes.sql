-- concurrently
-- What waits to be derived: for each state of `derived.py` an index of its own, empty once all is done.
create index concurrently if not exists cases_to_derive on cases (case_id) where derived < 1;
-- What filters and the search box look for. An index of all plain texts takes a third of what four of single texts take.
create index concurrently if not exists cases_by_text on cases using gin (plain_text gin_trgm_ops);
-- Orders of lists, of each facility; `cases_by_facility` is by receipt.
create index concurrently if not exists cases_by_study on cases (facility_id, study_order, case_id);
create index concurrently if not exists cases_by_patient_name on cases (facility_id, patient_name_order, case_id);
-- The studies of a person, and whether a patient record has a case.
create index concurrently if not exists cases_by_person on cases (person_id, study_day) where person_id is not null;
create index concurrently if not exists cases_by_patient_record on cases (patient_record_id)
    where patient_record_id is not null;
-- What is assigned to somebody, newest first.
create index concurrently if not exists cases_by_assignee on cases (assignee_id, received_at desc, case_id desc)
    where assignee_id is not null;
