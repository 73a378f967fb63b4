-- When a case was reopened. Null: never, or by the version before. One of before the last final report says nothing: the
-- version before has issued that, and reopened the case again.
alter table readings add column reopened_at timestamptz;
