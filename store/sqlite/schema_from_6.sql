-- Version 6 indexed the messages of all users, up to one number. Older versions had no index. `schema.sql` runs before
-- this, and `indexes.sql` after it.

CREATE TABLE IF NOT EXISTS search_state (id INTEGER PRIMARY KEY, indexed INTEGER NOT NULL);
INSERT INTO searches (user, indexed) SELECT user, indexed FROM stored, search_state;
DROP TABLE search_state;
DROP TRIGGER IF EXISTS message_leaves_search;
