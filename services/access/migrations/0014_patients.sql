-- Patients: whose studies belong together (A7). And what is derived of a case is derived again when it is outdated.

-- Finds a text within texts. It is trusted: whoever may create in the database may create it.
create extension if not exists pg_trgm;

-- A patient record: an ID of one issuer, an absent issuer being the owning facility, with one name and birth date: those
-- of the first of its cases. A record without a case goes, and its links with it. `person_id` is the same for all records
-- that links join; alone, a record is a person.
create table patients (
    patient_record_id uuid primary key,
    patient_id text not null check (patient_id <> ''),
    issuer text not null,
    facility_id uuid,
    patient_name text not null,
    patient_birth_date text not null,
    person_id uuid not null,
    check ((issuer = '') = (facility_id is not null))
);
create index patients_by_id on patients (patient_id, issuer);
create index patients_by_person on patients (person_id);

-- What administrators say of two records: that they are of one person.
create table patient_links (
    link_id uuid primary key,
    one_id uuid not null references patients on delete cascade,
    other_id uuid not null references patients on delete cascade,
    linked_by text not null,
    linked_at timestamptz not null,
    unique (one_id, other_id),
    check (one_id < other_id)
);
create index patient_links_by_other on patient_links (other_id);

-- `person_id` is that of the record. `patient_name_order` and `study_order` are what lists are ordered by, absent being
-- the smallest: the plain form of the name, and date and time of the study at the place where it was made.
-- `derived_in` is the version of the entry in which it was derived, null: what is derived does not stand.
alter table cases
    add column patient_record_id uuid references patients,
    add column person_id uuid,
    add column patient_name_order text collate "C" not null default '',
    add column study_order timestamp not null default '-infinity',
    add column derived_in bigint;

-- The version before writes what is derived from, and does not derive: then nothing is known until it is derived again.
create function outdate_derived() returns trigger language plpgsql as $$
begin
    new.derived := 0;
    new.study_day := null;
    new.study_time_of_day := null;
    new.study_at := null;
    new.birth_day := null;
    new.age_years := null;
    new.age_months := null;
    new.age_weeks := null;
    new.age_days := null;
    new.text_forms := null;
    new.plain_text := null;
    new.patient_name_order := '';
    new.study_order := '-infinity';
    new.person_id := null;
    new.derived_in := null;
    return new;
end
$$;
create trigger cases_outdate_derived before update on cases for each row  -- safe for 4476624: it refuses nothing, and sets only what that version does not know
    when (
        new.derived_in is not distinct from old.derived_in and old.derived_in is not null
        and (
            new.facility_id, new.study_instance_uid, new.patient_name, new.patient_id, new.patient_birth_date,
            new.patient_sex, new.study_date, new.study_time, new.study_description, new.accession_number,
            new.referring_physician_name, new.modalities_in_study, new.series_count, new.instance_count
        ) is distinct from (
            old.facility_id, old.study_instance_uid, old.patient_name, old.patient_id, old.patient_birth_date,
            old.patient_sex, old.study_date, old.study_time, old.study_description, old.accession_number,
            old.referring_physician_name, old.modalities_in_study, old.series_count, old.instance_count
        )
    )
    execute function outdate_derived();

-- Facilities whose time zone became known or changed, and how far their cases were marked as to be derived again.
create table rezoned (
    facility_id uuid primary key,
    since timestamptz not null,
    after_received_at timestamptz,
    after_case_id uuid
);
