-- 0002 was changed once before it first landed: a database made in between lacks this column.
-- reconciles: 0002_deletion.sql as 8f0fed8e0ed3ec5b6bc498b144ec9a774f0f89aa272bef06ba91648084245caf
alter table tombstones add column if not exists deletion_id uuid;
