-- concurrently
-- Of superseded ones too: those of 0018 no longer answer whether somebody is about to send a study.
create index concurrently if not exists transfers_not_ended on transfers (study_instance_uid) where ended_at is null;
