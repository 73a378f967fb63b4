-- concurrently
-- The beginning of a number finds its cases, in either case of its letters. A number that is not of ASCII alone stands
-- as an empty text: there is hardly one, and whoever looks for a beginning looks at all of these too.
create index concurrently if not exists cases_by_patient_id on cases
    ((case when octet_length(patient_id) = length(patient_id) then lower(patient_id collate "C") else '' end collate "C"))
    where patient_id <> '';
create index concurrently if not exists cases_by_accession_number on cases
    ((case when octet_length(accession_number) = length(accession_number)
        then lower(accession_number collate "C") else '' end collate "C"))
    where accession_number <> '';
create index concurrently if not exists cases_by_dicom_study_id on cases
    ((case when octet_length(dicom_study_id) = length(dicom_study_id)
        then lower(dicom_study_id collate "C") else '' end collate "C"))
    where dicom_study_id <> '';
