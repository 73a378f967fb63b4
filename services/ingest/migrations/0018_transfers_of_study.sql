-- concurrently
create index concurrently if not exists transfers_under_way on transfers (study_instance_uid)
    where superseded_by is null and ended_at is null;
