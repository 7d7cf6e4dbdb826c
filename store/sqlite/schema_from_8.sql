-- Version 8 had one entry in each row of the log, and no table `flushes`; see `schema.sql`, which runs before this.

ALTER TABLE log ADD COLUMN flushes TEXT;
