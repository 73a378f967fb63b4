-- 0002 was changed once before it first landed: a database made in between keeps used codes, and marks them.
-- reconciles: 0002_codes.sql as a6c5881c6e1c567cb0f766287b6865750f481158c695ba436a4b4e4a5d85a1ef
do $$
begin
    if exists (select from information_schema.columns
               where table_schema = current_schema and table_name = 'codes' and column_name = 'used') then
        delete from codes where used;
        drop index codes_to_lapse;  -- safe for 4874741: it is made again below
        alter table codes drop column used;  -- safe for 4874741: it never had this column
        create index codes_to_lapse on codes (created_at) where not lapsed;
    end if;
end
$$;
