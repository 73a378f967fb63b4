-- concurrently
-- Packs whose file may be longer than their row says (0014).
create index concurrently if not exists packs_to_trim on packs (pack_id) where to_trim;
