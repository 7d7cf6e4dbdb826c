-- Version 5 had no retention and no search in messages. `schema.sql` runs before this, and `indexes.sql` after it.

ALTER TABLE conversations ADD COLUMN retention_days INTEGER;
ALTER TABLE notes ADD COLUMN user TEXT;
