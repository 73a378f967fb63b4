-- 0004 was changed once before it first landed: a database made in between lacks this index.
-- reconciles: 0004_deletion.sql as 60db7ef64e89214d481dbc423f4d49a1090a8672bd142fb7876a18abc402bb48
create index if not exists cases_being_deleted on cases (case_id) where deletion_id is not null;
