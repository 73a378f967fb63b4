-- The version of the reading from which what follows it in the row of the case was derived. Another than `version`, or
-- null: the version before has written the row since, and reporting is asked again.
alter table readings add column derived_version bigint;
