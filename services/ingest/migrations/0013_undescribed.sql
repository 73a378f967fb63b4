-- concurrently
-- What waits to be described again (0012): parts, and studies of which the series are not kept as parts yet.
create index concurrently if not exists parts_undescribed on parts (study_id, number) where described < 1;
create index concurrently if not exists studies_not_by_parts on studies (study_id) where not by_parts;
