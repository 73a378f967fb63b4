-- What of the patient is written differently within the case, and agrees all the same: DICOM keywords, never values.
alter table cases
    add column written_differently text[] not null default '{}';
